/* Configuration: the document reader, the settings of tsnode (both file forms, variables, flags)
 * and of derpd, and DERP map files. What was accepted must print, and print again the same. */
#include <stdlib.h>
#include <string.h>

#include "config/derp_map_file.h"
#include "config/derpd_config.h"
#include "config/tsnode_config.h"
#include "tests/fuzz/fuzzing.h"

#define WORDS_MAX 32u
#define DEPTH_ALL (MSOCK_DOCUMENT_DEPTH_MAX + 2)

static void problems(const msock_config_report *r) {
  char buf[MSOCK_CONFIG_PROBLEM_TEXT_MAX];
  FUZZ_CHECK(r->n <= MSOCK_CONFIG_PROBLEMS_MAX);
  for (size_t i = 0; i < r->n; i++) {
    const char *text = msock_config_problem_text(&r->problems[i], buf);
    for (const char *p = text; *p != '\0'; p++) {
      FUZZ_CHECK((unsigned char)*p >= ' ' && *p != 0x7f);
    }
  }
}

static size_t visit(const msock_document *d, const msock_document_node *n, unsigned depth) {
  char where[MSOCK_CONFIG_WHERE_MAX];
  size_t count = 1, children = 0;

  FUZZ_CHECK(depth <= DEPTH_ALL && n->line >= 1 && n->column >= 1 && n->text != NULL);
  FUZZ_CHECK(strchr(msock_document_where(d, n, where), ':') != NULL);
  for (const msock_document_node *c = n->first; c != NULL; c = c->next) {
    FUZZ_CHECK((c->key != NULL) == (n->kind == MSOCK_DOCUMENT_MAPPING));
    if (c->key != NULL) {
      FUZZ_CHECK(msock_document_find(n, c->key) == c); /* no key twice */
    }
    children++;
    count += visit(d, c, depth + 1);
  }
  FUZZ_CHECK(children == n->n_children);
  return count;
}

static void document(const uint8_t *p, size_t len) {
  msock_config_report report = {0};
  msock_document *d = msock_document_read("file.yaml", p, len, &report);

  FUZZ_CHECK((d == NULL) == (report.n_errors > 0));
  if (d != NULL) {
    FUZZ_CHECK(visit(d, msock_document_root(d), 0) <= MSOCK_DOCUMENT_NODES_MAX);
  }
  problems(&report);
  msock_document_free(d);
}

static void derp_map(const uint8_t *p, size_t len) {
  msock_config_report report = {0};
  msock_derp_map map;
  const msock_err e = msock_derp_map_read("derp.yaml", p, len, &map, &report);

  FUZZ_CHECK((e == MSOCK_OK) == (report.n_errors == 0));
  FUZZ_CHECK(e == MSOCK_OK || map.n_regions == 0);
  for (size_t i = 0; i < map.n_regions; i++) {
    FUZZ_CHECK(map.regions[i].id != 0 && map.regions[i].n_nodes <= MSOCK_DERP_NODES_MAX);
    FUZZ_CHECK(i == 0 || map.regions[i - 1].id < map.regions[i].id);
  }
  problems(&report);
  msock_derp_map_clear(&map);
}

static void accepted(const msock_config *c) {
  const msock_tsnode_config *v = msock_tsnode_config_values(c);
  char *text = msock_config_print(c);

  FUZZ_CHECK(text != NULL && v->hostname != NULL && v->tun != NULL && v->statedir != NULL);
  FUZZ_CHECK(msock_config_diff(c, c, NULL, 0) == 0);
  if (v->auth_key[0] != '\0' && strlen(v->auth_key) > 16) {
    FUZZ_CHECK(strstr(text, v->auth_key) == NULL); /* a secret is never printed */
  }
  free(text);
}

static void settings(const uint8_t *p, size_t len) {
  const msock_tsnode_sources src = {.file_name = "tsnode.yaml", .file = p, .file_len = len};
  msock_config_report report = {0};
  msock_config *c = msock_tsnode_config_load(&src, &report);

  FUZZ_CHECK((c == NULL) == (report.n_errors > 0));
  problems(&report);
  if (c != NULL) {
    accepted(c);
  }
  msock_config_free(c);
}

static void relay_settings(const uint8_t *p, size_t len) {
  const msock_derpd_sources src = {.file_name = "derpd.yaml", .file = p, .file_len = len};
  msock_config_report report = {0};
  msock_config *c = msock_derpd_config_load(&src, &report);

  FUZZ_CHECK((c == NULL) == (report.n_errors > 0));
  if (c != NULL) {
    const msock_derpd_config *v = msock_derpd_config_values(c);
    char *text = msock_config_print(c);
    FUZZ_CHECK(text != NULL);
    FUZZ_CHECK(v->admission.token[0] == '\0' || strstr(text, v->admission.token) == NULL);
    FUZZ_CHECK(v->mesh.key[0] == '\0' || strlen(v->mesh.key) == 64);
    free(text);
    msock_derpd_config_apply_rates(c, "rate.json", p, len, &report);
  }
  problems(&report);
  msock_config_free(c);
}

/* Lines are words: flags, or variables. */
static void words(char *text, bool are_flags) {
  const char *list[WORDS_MAX + 1] = {0};
  size_t n = 0;
  msock_config_report report = {0};

  for (char *save = NULL, *w = strtok_r(text, "\n", &save); w != NULL && n < WORDS_MAX;
       w = strtok_r(NULL, "\n", &save)) {
    list[n++] = w;
  }
  const msock_tsnode_sources src = {.environment = are_flags ? NULL : list,
                                    .flags = are_flags ? list : NULL,
                                    .n_flags = are_flags ? n : 0};
  msock_config *c = msock_tsnode_config_load(&src, &report);
  problems(&report);
  if (c != NULL) {
    accepted(c);
  }
  msock_config_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  msock_reader r = msock_reader_init(data, size);
  const unsigned what = fuzz_choice(&r, 6);
  size_t len = 0;

  if (what == 3 || what == 4) {
    char *text = fuzz_rest_text(&r, &len);
    words(text, what == 3);
    free(text);
    return 0;
  }
  uint8_t *p = fuzz_rest(&r, &len);
  if (what == 0) {
    document(p, len);
  } else if (what == 1) {
    settings(p, len);
  } else if (what == 5) {
    relay_settings(p, len);
  } else {
    derp_map(p, len);
  }
  free(p);
  return 0;
}
