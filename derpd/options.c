#include "derpd/options.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crypto/wipe.h"
#include "io/file.h"

#define CONFIG_FILE_MAX (1u << 20)
#define PATH_MAX_BYTES 4096u

static msock_exit usage(char *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static msock_exit usage(char *why, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(why, MSOCK_DERPD_USAGE_MAX, fmt, ap);
  va_end(ap);
  return MSOCK_EXIT_USAGE;
}

/* --- the command line while it is read --- */

typedef struct reader {
  msock_derpd_options *o;
  int argc;
  char **argv;
  int at;
  const char *hostname, *certdir; /* derper's -certdir needs both */
  bool manual;
  char *why;
} reader;

static msock_exit add(reader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static msock_exit add(reader *r, const char *fmt, ...) {
  char word[PATH_MAX_BYTES + 64];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(word, sizeof word, fmt, ap);
  va_end(ap);
  if (r->o->n_words + 1 >= 2 * MSOCK_DERPD_WORDS_MAX) {
    return usage(r->why, "too many words on the command line");
  }
  char *copy = strdup(word);
  if (copy == NULL) {
    return usage(r->why, "out of memory");
  }
  r->o->words[r->o->n_words++] = copy;
  return MSOCK_EXIT_OK;
}

/* The bare name of a flag, and what stands behind "="; false: not a flag. */
static bool split_flag(const char *word, char name[static 64], const char **value) {
  if (word[0] != '-' || word[1] == '\0') {
    return false;
  }
  word += word[1] == '-' ? 2 : 1;
  const size_t n = strcspn(word, "=");
  snprintf(name, 64, "%.*s", (int)(n < 63 ? n : 63), word);
  *value = word[n] == '=' ? word + n + 1 : NULL;
  return true;
}

/* The value of a flag: behind "=", or the next word. NULL: there is none. */
static const char *take_value(reader *r, const char *value) {
  if (value == NULL && r->at + 1 < r->argc) {
    value = r->argv[++r->at];
  }
  return value;
}

static bool is_false(const char *text) {
  return text != NULL && (strcmp(text, "false") == 0 || strcmp(text, "0") == 0 ||
                          strcmp(text, "f") == 0 || strcmp(text, "no") == 0);
}

/* --- derper's flags --- */

typedef msock_exit (*rewrite_fn)(reader *r, const char *value);

static msock_exit on_stun(reader *r, const char *value) {
  return is_false(value) ? add(r, "--stun-listen=none") : MSOCK_EXIT_OK;
}

static msock_exit on_stun_port(reader *r, const char *value) {
  return add(r, "--stun-listen=:%s", value);
}

static msock_exit on_http_port(reader *r, const char *value) {
  return value[0] == '-' ? add(r, "--http-listen=none") : add(r, "--http-listen=:%s", value);
}

static msock_exit on_certmode(reader *r, const char *value) {
  if (strcmp(value, "manual") != 0) {
    return usage(r->why,
                 "-certmode %.20s is not in this build: get certificates with another program "
                 "(certbot, lego) and name the files with --cert and --cert-key; derpd takes new "
                 "ones at SIGHUP",
                 value);
  }
  r->manual = true;
  return MSOCK_EXIT_OK;
}

static msock_exit on_certdir(reader *r, const char *value) {
  r->certdir = value;
  return MSOCK_EXIT_OK;
}

static msock_exit on_hostname(reader *r, const char *value) {
  r->hostname = value;
  return add(r, "--hostname=%s", value);
}

/* derper -dev: port 3340, plain HTTP. */
static msock_exit on_dev(reader *r, const char *value) {
  if (is_false(value)) {
    return MSOCK_EXIT_OK;
  }
  const msock_exit e = add(r, "--listen=:3340");
  return e == MSOCK_EXIT_OK ? add(r, "--tls=false") : e;
}

static msock_exit on_nothing(reader *r, const char *value) {
  (void)r;
  (void)value;
  return MSOCK_EXIT_OK;
}

static const struct {
  const char *name;
  bool is_switch;
  rewrite_fn to;
} rewrites[] = {
    {"stun", true, on_stun},
    {"stun-port", false, on_stun_port},
    {"http-port", false, on_http_port},
    {"certmode", false, on_certmode},
    {"certdir", false, on_certdir},
    {"hostname", false, on_hostname},
    {"dev", true, on_dev},
    {"tcp-keepalive-time", false, on_nothing}, /* keep-alive frames do the same */
    {"tcp-user-timeout", false, on_nothing},   /* is derper's 15 s */
};

/* DIR/HOST.crt and DIR/HOST.key, where they are; else a certificate is made, as derper does for
 * addresses. */
static msock_exit add_certdir(reader *r) {
  char path[PATH_MAX_BYTES], host[256];
  size_t n = 0;
  if (r->certdir == NULL) {
    return MSOCK_EXIT_OK;
  }
  if (r->hostname == NULL) {
    return usage(r->why, "-certdir needs -hostname: the files are HOSTNAME.crt and HOSTNAME.key");
  }
  for (const char *p = r->hostname; *p && n + 1 < sizeof host; p++) { /* derp.md 4.6 */
    const bool ok = (*p >= '0' && *p <= '9') || (*p >= 'A' && *p <= 'Z') ||
                    (*p >= 'a' && *p <= 'z') || *p == '.' || *p == '-';
    host[n] = *p;
    n += ok;
  }
  host[n] = '\0';
  snprintf(path, sizeof path, "%s/%s.crt", r->certdir, host);
  if (access(path, F_OK) != 0 && !r->manual) {
    return MSOCK_EXIT_OK;
  }
  const msock_exit e = add(r, "--cert=%s", path);
  return e == MSOCK_EXIT_OK ? add(r, "--cert-key=%s/%s.key", r->certdir, host) : e;
}

/* --- our own flags --- */

static bool own_switch(reader *r, const char *name, const char *value) {
  const struct {
    const char *name;
    bool *to;
  } list[] = {
      {"h", &r->o->help},
      {"help", &r->o->help},
      {"V", &r->o->version},
      {"version", &r->o->version},
      {"check-config", &r->o->check_config},
      {"generate-config", &r->o->generate_config},
  };
  for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
    if (strcmp(list[i].name, name) == 0) {
      *list[i].to = !is_false(value);
      return true;
    }
  }
  return false;
}

/* Flags of `derpd map`, and the file. NULL: another one. */
static const char **own_text(reader *r, const char *name) {
  msock_derpd_map_options *m = &r->o->map;
  const bool map = r->o->verb == MSOCK_DERPD_MAP;
  return map && strcmp(name, "format") == 0        ? &m->format
         : map && strcmp(name, "region-id") == 0   ? &m->region
         : map && strcmp(name, "region-code") == 0 ? &m->code
         : map && strcmp(name, "region-name") == 0 ? &m->name
         : map && strcmp(name, "address") == 0     ? &m->address
                                                   : NULL;
}

static msock_exit on_config(reader *r, const char *value) {
  value = take_value(r, value);
  if (value == NULL) {
    return usage(r->why, "--config needs the path of a file");
  }
  free(r->o->file);
  r->o->file = strdup(value);
  r->o->file_is_named = true;
  return r->o->file ? MSOCK_EXIT_OK : usage(r->why, "out of memory");
}

/* 1: done; 0: a flag of the settings; -1: *code is an error. */
static int rewrite(reader *r, const char *name, const char *value, msock_exit *code) {
  for (size_t i = 0; i < sizeof rewrites / sizeof *rewrites; i++) {
    if (strcmp(rewrites[i].name, name) != 0) {
      continue;
    }
    const char *v = rewrites[i].is_switch ? (value ? value : "true") : take_value(r, value);
    *code = v ? rewrites[i].to(r, v) : usage(r->why, "-%s needs a value", name);
    return *code == MSOCK_EXIT_OK ? 1 : -1;
  }
  return 0;
}

static msock_exit read_flag(reader *r, const char *name, const char *value) {
  msock_exit code = MSOCK_EXIT_OK;
  if (strcmp(name, "c") == 0 || strcmp(name, "config") == 0) {
    return on_config(r, value);
  }
  if (own_switch(r, name, value)) {
    return MSOCK_EXIT_OK;
  }
  const char **text = own_text(r, name);
  if (text != NULL) {
    *text = take_value(r, value);
    return *text ? MSOCK_EXIT_OK : usage(r->why, "--%s needs a value", name);
  }
  if (rewrite(r, name, value, &code) != 0) {
    return code;
  }
  return add(r, "%s", r->argv[r->at]);
}

static msock_exit read_words(reader *r) {
  msock_exit code = MSOCK_EXIT_OK;
  for (; r->at < r->argc && code == MSOCK_EXIT_OK; r->at++) {
    char name[64];
    const char *value;
    if (split_flag(r->argv[r->at], name, &value)) {
      code = read_flag(r, name, value);
    } else {
      code = add(r, "%s", r->argv[r->at]); /* a flag's value, or refused by the table */
    }
  }
  return code == MSOCK_EXIT_OK ? add_certdir(r) : code;
}

/* --- places --- */

static const char *variable(const msock_derpd_options *o, const char *name) {
  const size_t n = strlen(name);
  for (const char *const *e = o->environment; e != NULL && *e != NULL; e++) {
    if (strncmp(*e, name, n) == 0 && (*e)[n] == '=' && (*e)[n + 1] != '\0') {
      return *e + n + 1;
    }
  }
  return NULL;
}

/* requirements.md D09, D10. */
static void find_statedir(msock_derpd_options *o, bool is_root) {
  char path[PATH_MAX_BYTES], here[PATH_MAX_BYTES / 2];
  const char *given = variable(o, "STATE_DIRECTORY"); /* systemd */
  const char *state = variable(o, "XDG_STATE_HOME"), *home = variable(o, "HOME");
  if (given != NULL) {
    snprintf(path, sizeof path, "%.*s", (int)strcspn(given, ":"), given);
    o->statedir_because = "environment STATE_DIRECTORY";
  } else if (is_root) {
    return;
  } else if (state != NULL && state[0] == '/') {
    snprintf(path, sizeof path, "%s/derpd", state);
    o->statedir_because = "of this user";
  } else if (home != NULL && home[0] == '/') {
    snprintf(path, sizeof path, "%s/.local/state/derpd", home);
    o->statedir_because = "of this user";
  } else {
    snprintf(path, sizeof path, "%s/derpd-state", getcwd(here, sizeof here) ? here : "/tmp");
    o->statedir_because = "no HOME: the working directory";
  }
  o->statedir = strdup(path);
}

static void find_file(msock_derpd_options *o, bool is_root) {
  const char *named = variable(o, "DERPD_CONFIG");
  o->file_is_named = named != NULL;
  o->file = named ? strdup(named)
                  : msock_config_default_path(&msock_derpd_schema, o->environment, is_root);
}

msock_exit msock_derpd_options_parse(int argc, char **argv, const char *const *environment,
                                     bool is_root, msock_derpd_options *o,
                                     char why[static MSOCK_DERPD_USAGE_MAX]) {
  *o = (msock_derpd_options){.environment = environment};
  reader r = {.o = o, .argc = argc, .argv = argv, .why = why};
  why[0] = '\0';
  if ((size_t)argc > MSOCK_DERPD_WORDS_MAX) {
    return usage(why, "too many words on the command line");
  }
  find_file(o, is_root);
  find_statedir(o, is_root);
  if (argc > 0 && argv[0][0] != '-') {
    if (strcmp(argv[0], "map") == 0) {
      o->verb = MSOCK_DERPD_MAP;
    } else if (strcmp(argv[0], "help") == 0) {
      o->help = true;
    } else if (strcmp(argv[0], "version") == 0) {
      o->version = true;
    } else if (strcmp(argv[0], "run") != 0) {
      return usage(why, "unknown command \"%.40s\": run (the default), map, version, help",
                   argv[0]);
    }
    r.at = 1;
  }
  return read_words(&r);
}

void msock_derpd_options_clear(msock_derpd_options *o) {
  for (size_t i = 0; i < o->n_words; i++) {
    free(o->words[i]);
  }
  free(o->file);
  free(o->statedir);
  *o = (msock_derpd_options){0};
}

/* --- loading --- */

static bool apply_rate_file(msock_config *c, msock_config_report *report) {
  const char *path = msock_derpd_config_values(c)->rate_config;
  char why[MSOCK_FILE_WHY_MAX];
  char *text = NULL;
  size_t len = 0;
  if (path[0] == '\0') {
    return true;
  }
  if (msock_file_read(path, CONFIG_FILE_MAX, false, &text, &len, why) != MSOCK_OK) {
    msock_config_report_add(report, false, path, "rate_config", NULL, "%s", why);
    return false;
  }
  char name[PATH_MAX_BYTES];
  snprintf(name, sizeof name, "%s", path); /* the config's own strings may move */
  const msock_err e = msock_derpd_config_apply_rates(c, name, (const uint8_t *)text, len, report);
  free(text);
  return e == MSOCK_OK;
}

/* Secrets whose rows name a file. */
static bool read_secret(msock_config *c, const char *key, const char *file,
                        msock_config_report *report) {
  char why[MSOCK_FILE_WHY_MAX], path[PATH_MAX_BYTES];
  char *text = NULL;
  size_t len = 0;
  if (file[0] == '\0') {
    return true;
  }
  snprintf(path, sizeof path, "%s", file); /* the config's own strings may move */
  if (msock_file_read(path, CONFIG_FILE_MAX, true, &text, &len, why) != MSOCK_OK) {
    msock_config_report_add(report, false, path, key, NULL, "%s", why);
    return false;
  }
  char *secret = msock_config_secret_from_file(&msock_derpd_schema, key, path,
                                               (const uint8_t *)text, len, report);
  msock_wipe(text, len);
  free(text);
  const bool ok = secret != NULL && msock_config_override(c, key, secret, path) == MSOCK_OK;
  msock_config_free_secret(secret);
  return ok;
}

msock_config *msock_derpd_options_load(const msock_derpd_options *o, msock_config_report *report) {
  char why[MSOCK_FILE_WHY_MAX];
  char *text = NULL;
  size_t len = 0;
  if (o->file != NULL) {
    const msock_err e = msock_file_read(o->file, CONFIG_FILE_MAX, false, &text, &len, why);
    if (e != MSOCK_OK && (o->file_is_named || e != MSOCK_ERR_UNKNOWN)) {
      msock_config_report_unreadable(&msock_derpd_schema, e, why, report);
      return NULL;
    }
  }
  const msock_derpd_sources src = {.file_name = o->file,
                                   .file = (const uint8_t *)text,
                                   .file_len = len,
                                   .environment = o->environment,
                                   .flags = (const char *const *)o->words,
                                   .n_flags = o->n_words,
                                   .statedir = o->statedir,
                                   .statedir_because = o->statedir_because};
  msock_config *c = msock_derpd_config_load(&src, report);
  free(text);
  if (c == NULL) {
    return NULL;
  }
  const msock_derpd_config *v = msock_derpd_config_values(c);
  const bool ok = apply_rate_file(c, report) &&
                  read_secret(c, "admission.token", v->admission.token_file, report) &&
                  read_secret(c, "mesh.key", v->mesh.key_file, report);
  if (!ok) {
    msock_config_free(c);
    return NULL;
  }
  return c;
}

/* --- help --- */

void msock_derpd_print_help(void) {
  static const char text[] =
      "usage: derpd [run] [FLAG...]     relay for Tailscale and Headscale nodes (DERP, STUN)\n"
      "       derpd map [FLAG...]       print the DERP map entry of this relay\n"
      "       derpd version\n\n"
      "  -c, --config FILE       configuration (default: /etc/derpd/derpd.yaml as root, else\n"
      "                          ~/.config/derpd/derpd.yaml, if it is there)\n"
      "      --check-config      print every setting with its origin and exit; 10 = not valid\n"
      "      --generate-config   write a file that explains every setting (to --config FILE,\n"
      "                          else to standard output) and exit\n"
      "      --listen ADDR       where clients connect (default :443)\n"
      "      --hostname NAME     name or address by which clients reach this relay\n"
      "      --cert FILE --cert-key FILE\n"
      "                          certificate (PEM); without one is made, known by its pin\n"
      "      --stun-listen ADDR  STUN server (default :3478), or none\n"
      "      --admin-listen ADDR status page, metrics, health (default 127.0.0.1:3341), or none\n"
      "      --statedir DIR      identity key, certificate, quota counters\n"
      "  -l, --log-level LEVEL   error, warn, info, debug or trace\n"
      "  -h, --help   -V, --version\n\n"
      "derpd map: --format yaml|json  --region-id N  --region-code CODE  --region-name NAME\n"
      "           --address IP (for clients that shall not look the name up)\n\n"
      "Every setting of the configuration is a flag too (limits.key_rate is --limits-key-rate)\n"
      "and a variable (DERPD_LIMITS_KEY_RATE). derper's flags are understood.\n"
      "SIGHUP reloads limits, lists and certificates; SIGTERM tells clients and ends.\n";
  fputs(text, stdout);
}
