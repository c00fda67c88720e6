#include "config/document.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/testing.h"

static msock_document *read_text(const char *text, msock_config_report *r) {
  *r = (msock_config_report){0};
  return msock_document_read("a.yaml", (const uint8_t *)text, strlen(text), r);
}

/* The tree as one line: scalars as text, 'quoted', [sequences], {key: value}. */
static void describe(const msock_document_node *n, char *out, size_t cap) {
  size_t len = strlen(out);
  if (n->kind == MSOCK_DOCUMENT_SCALAR) {
    (void)snprintf(out + len, cap - len, n->quoted ? "'%s'" : "%s",
                   msock_document_is_null(n) ? "NULL" : n->text);
    return;
  }
  const bool map = n->kind == MSOCK_DOCUMENT_MAPPING;
  (void)snprintf(out + len, cap - len, map ? "{" : "[");
  for (const msock_document_node *child = n->first; child; child = child->next) {
    len = strlen(out);
    (void)snprintf(out + len, cap - len, "%s%s", map ? child->key : "", map ? ": " : "");
    describe(child, out, cap);
    len = strlen(out);
    (void)snprintf(out + len, cap - len, child->next ? ", " : "");
  }
  len = strlen(out);
  (void)snprintf(out + len, cap - len, map ? "}" : "]");
}

static const struct {
  const char *name, *text, *tree;
} good[] = {
    {"empty", "", "NULL"},
    {"comment only", "# nothing\n", "NULL"},
    {"yaml block", "a: 1\nb:\n  - x\n  - y: z\n", "{a: 1, b: [x, {y: z}]}"},
    {"yaml flow", "{a: [1, 2], b: {}}", "{a: [1, 2], b: {}}"},
    {"nulls", "a:\nb: ~\nc: null\nd: ''\ne: \"null\"\n",
     "{a: NULL, b: NULL, c: NULL, d: '', e: 'null'}"},
    {"json", "{\"a\":1,\"b\":[true,null,\"x\\ty\"],\n\t\"c\":{\"d\":-1.5e3}}",
     "{a: 1, b: [true, NULL, 'x\ty'], c: {d: -1.5e3}}"},
    {"huge number stays text", "{\"id\":9007199254740993}", "{id: 9007199254740993}"},
    {"one explicit document", "---\na: 1\n...\n", "{a: 1}"},
    {"byte order mark",
     "\xef\xbb\xbf"
     "a: 1\n",
     "{a: 1}"},
    {"json after comments", "// head\n/* more */ { \"a\":1,}\n", "{a: 1}"},
    {"slashes in yaml", "a: //x\nb: /* y */\n", "{a: //x, b: /* y */}"},
    {"json comments inside",
     "{ // one \"quote\n \"a\": \"http://x\\\"//y\", /* two\n lines */ \"b\": \"/* no */\", }",
     "{a: 'http://x\"//y', b: '/* no */'}"},
    {"plain url in a flow mapping", "{a: http://x//y}", "{a: http://x//y}"},
    {"block text", "a: |\n  one\n  two\n", "{a: 'one\ntwo\n'}"},
};

START_TEST(reads) {
  msock_config_report r;
  char tree[512] = "";
  msock_document *d = read_text(good[_i].text, &r);
  ck_assert_msg(d != NULL, "%s: %s", good[_i].name, r.problems[0].reason);
  ck_assert_uint_eq(r.n, 0);
  describe(msock_document_root(d), tree, sizeof tree);
  ck_assert_msg(strcmp(tree, good[_i].tree) == 0, "%s: %s", good[_i].name, tree);
  msock_document_free(d);
}
END_TEST

START_TEST(keeps_positions) {
  msock_config_report r;
  char where[MSOCK_CONFIG_WHERE_MAX];
  msock_document *d = read_text("first: 1\nlist:\n  - a\n  -   bb: cc\n", &r);
  ck_assert_ptr_nonnull(d);
  const msock_document_node *list = msock_document_find(msock_document_root(d), "list");
  ck_assert_str_eq(msock_document_key_where(d, list, where), "a.yaml:2:1");
  ck_assert_str_eq(msock_document_where(d, list, where), "a.yaml:3:3");
  ck_assert_uint_eq(list->n_children, 2);
  ck_assert_str_eq(msock_document_key_where(d, list->first, where), "a.yaml:3:5");
  const msock_document_node *bb = msock_document_find(list->first->next, "bb");
  ck_assert_str_eq(msock_document_key_where(d, bb, where), "a.yaml:4:7");
  ck_assert_str_eq(msock_document_where(d, bb, where), "a.yaml:4:11");
  ck_assert_ptr_null(msock_document_find(msock_document_root(d), "second"));
  ck_assert_ptr_null(msock_document_find(list, "bb")); /* not a mapping */
  msock_document_free(d);
}
END_TEST

START_TEST(positions_survive_comments) {
  msock_config_report r;
  char where[MSOCK_CONFIG_WHERE_MAX];
  msock_document *d = read_text("{ /* a\n b */ \"k\": 1 }", &r);
  ck_assert_ptr_nonnull(d);
  ck_assert_str_eq(
      msock_document_key_where(d, msock_document_find(msock_document_root(d), "k"), where),
      "a.yaml:2:7");
  msock_document_free(d);
}
END_TEST

/* closes: M20 */
static const struct {
  const char *text, *problem;
} bad[] = {
    {"a: 1\nb: 2\na: 3\n", "a.yaml:3:1: a: written twice, first on line 1; keep one of the two"},
    {"a: &x 1\n",
     "a.yaml:1:4: anchors, aliases and tags are not read; write the value out, and put "
     "a text that begins with &, * or ! in quotes"},
    {"a: *x\n", "a.yaml:1:4: anchors, aliases and tags are not read; write the value out, and put "
                "a text that begins with &, * or ! in quotes"},
    {"a: !!int 1\n", "a.yaml:1:4: anchors, aliases and tags are not read; write the value out, and "
                     "put a text that begins with &, * or ! in quotes"},
    {"a:\n  &m {}\n",
     "a.yaml:2:3: anchors, aliases and tags are not read; write the value out, and "
     "put a text that begins with &, * or ! in quotes"},
    {"a: 1\n---\nb: 2\n",
     "a.yaml:2:1: a second document begins here; keep one document in each file"},
    {"? [x]\n: 1\n", "a.yaml:1:3: a key that is not text; write a plain word as the key"},
    {"a: \"x\\0y\"\n", "a.yaml:1:4: a zero byte inside a text; remove it"},
    {"a: b: c\n",
     "a.yaml:1:5: mapping values are not allowed in this context; write KEY: VALUE, one "
     "on each line, and put a value that holds \": \" in quotes"},
    {"a:\n\tb: 1\n", "a.yaml:2:1: found character that cannot start any token; indent with spaces, "
                     "not with tabs"},
    {"a: [1, 2\n", "a.yaml:2:1: did not find expected ',' or ']'; check the quotes, brackets and "
                   "indentation here and on the line above"},
    {"a: 1\nb: \xff\n", "a.yaml:2:4: invalid leading UTF-8 octet; save the file as UTF-8 text"},
    {"a: 1\nb: \x01\n",
     "a.yaml:2:4: control characters are not allowed; save the file as UTF-8 text"},
};

START_TEST(refuses) {
  msock_config_report r;
  char text[MSOCK_CONFIG_PROBLEM_TEXT_MAX];
  msock_document *d = read_text(bad[_i].text, &r);
  ck_assert_ptr_null(d);
  ck_assert_uint_eq(r.n, 1);
  ck_assert_uint_eq(r.n_errors, 1);
  ck_assert_str_eq(msock_config_problem_text(&r.problems[0], text), bad[_i].problem);
}
END_TEST

/* n nested lists. */
static char *nested(size_t n) {
  char *text = calloc(1, 2 * n + 1);
  memset(text, '[', n);
  memset(text + n, ']', n);
  return text;
}

START_TEST(depth_is_bounded) {
  msock_config_report r;
  char *text = nested(MSOCK_DOCUMENT_DEPTH_MAX);
  msock_document *d = read_text(text, &r);
  ck_assert_ptr_nonnull(d);
  msock_document_free(d);
  free(text);
  text = nested(MSOCK_DOCUMENT_DEPTH_MAX + 1);
  ck_assert_ptr_null(read_text(text, &r));
  ck_assert_str_eq(r.problems[0].reason, "nested more than 32 levels deep");
  ck_assert_str_eq(r.problems[0].where, "a.yaml:1:33");
  free(text);
}
END_TEST

/* "prefix", then n times "item". */
static char *repeated(const char *prefix, const char *item, size_t n, const char *suffix) {
  const size_t item_len = strlen(item), prefix_len = strlen(prefix);
  char *text = calloc(1, prefix_len + n * item_len + strlen(suffix) + 1);
  memcpy(text, prefix, prefix_len);
  for (size_t i = 0; i < n; i++) {
    memcpy(text + prefix_len + i * item_len, item, item_len);
  }
  memcpy(text + prefix_len + n * item_len, suffix, strlen(suffix));
  return text;
}

START_TEST(nodes_are_bounded) {
  msock_config_report r;
  char *text = repeated("", "- 1\n", MSOCK_DOCUMENT_NODES_MAX - 1, "");
  msock_document *d = read_text(text, &r);
  ck_assert_ptr_nonnull(d);
  ck_assert_uint_eq(msock_document_root(d)->n_children, MSOCK_DOCUMENT_NODES_MAX - 1);
  msock_document_free(d);
  free(text);
  text = repeated("", "- 1\n", MSOCK_DOCUMENT_NODES_MAX, "");
  ck_assert_ptr_null(read_text(text, &r));
  ck_assert_str_eq(r.problems[0].reason, "more than 65536 values in one document");
  free(text);
}
END_TEST

START_TEST(keys_are_bounded) {
  for (unsigned over = 0; over <= 1; over++) {
    msock_config_report r;
    char *text = calloc(MSOCK_DOCUMENT_KEYS_MAX + 1, 16);
    for (unsigned i = 0; i < MSOCK_DOCUMENT_KEYS_MAX + over; i++) {
      (void)snprintf(text + strlen(text), 16, "k%u: 1\n", i);
    }
    msock_document *d = read_text(text, &r);
    ck_assert_int_eq(d == NULL, over == 1);
    ck_assert_uint_eq(r.n_errors, over);
    msock_document_free(d);
    free(text);
  }
}
END_TEST

START_TEST(bytes_are_bounded) {
  msock_config_report r = {0};
  char *text = repeated("a: 1\n#", "x", MSOCK_DOCUMENT_BYTES_MAX - 6, "y");
  msock_document *d = msock_document_read("a.yaml", (uint8_t *)text, MSOCK_DOCUMENT_BYTES_MAX, &r);
  ck_assert_ptr_nonnull(d);
  msock_document_free(d);
  ck_assert_ptr_null(
      msock_document_read("a.yaml", (uint8_t *)text, MSOCK_DOCUMENT_BYTES_MAX + 1, &r));
  ck_assert_str_eq(r.problems[0].reason, "1048577 bytes; at most 1048576 are read");
  free(text);
}
END_TEST

/* Cut off and damaged documents give a tree or one error, never both, and leak nothing. */
START_TEST(damaged_documents_are_refused_cleanly) {
  static const char whole[] = "{\"a\": [1, {\"b\": \"c\"}, // x\n 2], \"d\": {\"e\": null}}";
  testing_rng rng;
  const msock_env env = testing_env(&rng, 7);
  for (size_t i = 0; i < 2000; i++) {
    msock_config_report r = {0};
    uint8_t bytes[sizeof whole];
    memcpy(bytes, whole, sizeof whole);
    size_t len = sizeof whole - 1;
    if (i < sizeof whole) {
      len = i;
    } else {
      bytes[msock_env_uniform(&env, len)] = (uint8_t)msock_env_uniform(&env, 256);
    }
    msock_document *d = msock_document_read("x", bytes, len, &r);
    ck_assert_uint_eq(r.n_errors, d == NULL ? 1 : 0);
    msock_document_free(d);
  }
}
END_TEST

START_TEST(report_prefers_errors_when_full) {
  msock_config_report r = {0};
  char text[MSOCK_CONFIG_PROBLEM_TEXT_MAX];
  for (unsigned i = 0; i < MSOCK_CONFIG_PROBLEMS_MAX; i++) {
    msock_config_report_add(&r, i % 2 == 0, "w", NULL, NULL, "%u", i);
  }
  msock_config_report_add(&r, true, "w", NULL, NULL, "one warning too many");
  msock_config_report_add(&r, false, "w", "f", "way", "late\terror");
  ck_assert_uint_eq(r.n, MSOCK_CONFIG_PROBLEMS_MAX);
  ck_assert_uint_eq(r.n_left_out, 2);
  ck_assert_uint_eq(r.n_errors, MSOCK_CONFIG_PROBLEMS_MAX / 2 + 1);
  ck_assert_str_eq(msock_config_problem_text(&r.problems[r.n - 1], text), "w: f: late?error; way");
  ck_assert_str_eq(msock_config_problem_text(&r.problems[0], text), "warning: w: 0");
}
END_TEST

#define N_OF(a) ((int)(sizeof(a) / sizeof(a)[0]))

int main(void) {
  TCase *tc = testing_case();
  tcase_add_loop_test(tc, reads, 0, N_OF(good));
  tcase_add_loop_test(tc, refuses, 0, N_OF(bad));
  tcase_add_test(tc, keeps_positions);
  tcase_add_test(tc, positions_survive_comments);
  tcase_add_test(tc, depth_is_bounded);
  tcase_add_test(tc, nodes_are_bounded);
  tcase_add_test(tc, keys_are_bounded);
  tcase_add_test(tc, bytes_are_bounded);
  tcase_add_test(tc, damaged_documents_are_refused_cleanly);
  tcase_add_test(tc, report_prefers_errors_when_full);
  return testing_main("config_document", tc);
}
