#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/unix_client.h"
#include "node/node_main.h"
#include "node/settings.h"
#include "node/state.h"
#include "tsnode/cli.h"

#define WORDS_MAX 128u /* of the command line, settings of the configuration */
#define STATE_IN_MEMORY "mem:"
#define CLEANUP_ASK_US UINT64_C(2000000)

extern char **environ;

typedef struct daemon_flags {
  const char *state, *config;
  uint64_t verbose;
  bool debug, cleanup, check_config, generate_config;
} daemon_flags;

/* What the configuration has no key for. All other flags are settings (docs/config.md). */
static size_t own_flags(daemon_flags *f, msock_flag out[static 16]) {
  const msock_flag list[] = {
      {"config", MSOCK_FLAG_TEXT, &f->config, NULL,
       "configuration file (default /etc/tsnode/tsnode.yaml, if it is there)", 0},
      {"check-config", MSOCK_FLAG_BOOL, &f->check_config, NULL,
       "print every setting with its origin and exit; 10 = not valid", 0},
      {"generate-config", MSOCK_FLAG_BOOL, &f->generate_config, NULL,
       "print a configuration file that explains every setting, and exit", 0},
      {"state", MSOCK_FLAG_TEXT, &f->state, NULL,
       "state file (default " MSOCK_STATE_FILE " in statedir); mem: keeps it in memory", 0},
      {"verbose", MSOCK_FLAG_LEVEL, &f->verbose, NULL, "log more: 1 = debug, 2 = trace", 2},
      {"v", MSOCK_FLAG_BOOL, &f->debug, NULL, "the same as --verbose=1", 0},
      {"cleanup", MSOCK_FLAG_BOOL, &f->cleanup, NULL,
       "undo what a dead daemon left behind, and exit", 0},
      {"debug", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
      {"bird-socket", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
      {"encrypt-state", MSOCK_FLAG_ABSENT, NULL, NULL, NULL, 0},
  };
  memcpy(out, list, sizeof list);
  return sizeof list / sizeof *list;
}

static const msock_flag *own_flag(const msock_flag *flags, size_t n, const char *word) {
  const char *name = word + (word[0] == '-') + (word[0] == '-' && word[1] == '-');
  const size_t len = strcspn(name, "=");
  for (size_t i = 0; name != word && i < n; i++) {
    if (strlen(flags[i].name) == len && memcmp(flags[i].name, name, len) == 0) {
      return &flags[i];
    }
  }
  return NULL;
}

/* Parts the command line: words of flags above stay in argv, the rest are settings. */
typedef struct words {
  char *own[WORDS_MAX];
  const char *settings[WORDS_MAX + 2];
  int n_own;
  size_t n_settings;
} words;

static msock_exit part(const msock_flag *flags, size_t n, int argc, char **argv, words *w) {
  if ((size_t)argc > WORDS_MAX) {
    return msock_cli_fail(MSOCK_EXIT_USAGE, "daemon: too many words on the command line");
  }
  for (int i = 0; i < argc; i++) {
    const msock_flag *f = own_flag(flags, n, argv[i]);
    const bool help = strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0 ||
                      strcmp(argv[i], "-help") == 0;
    if (f == NULL && !help) {
      w->settings[w->n_settings++] = argv[i];
      continue;
    }
    w->own[w->n_own++] = argv[i];
    const bool digit = i + 1 < argc && strspn(argv[i + 1], "0123456789") == 1;
    const bool takes = f != NULL && strchr(argv[i], '=') == NULL &&
                       (f->kind == MSOCK_FLAG_TEXT || (f->kind == MSOCK_FLAG_LEVEL && digit));
    if (takes && i + 1 < argc) {
      w->own[w->n_own++] = argv[++i];
    }
  }
  return MSOCK_EXIT_OK;
}

static void put_first(words *w, const char *word) {
  memmove(w->settings + 1, w->settings, w->n_settings * sizeof *w->settings);
  w->settings[0] = word;
  w->n_settings++;
}

/* Missing parents of the user's own state directory: ~/.local/state need not be there yet. The
 * directory itself is made, and judged, by the daemon. */
static void make_parents(const char *dir) {
  char path[MSOCK_CLI_PATH_MAX];
  snprintf(path, sizeof path, "%s", dir);
  for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
      return; /* the daemon says what is wrong with the directory */
    }
    *slash = '/';
  }
}

static void print_problems(const msock_config_report *r) {
  char text[MSOCK_CONFIG_PROBLEM_TEXT_MAX];
  for (size_t i = 0; i < r->n; i++) {
    fprintf(stderr, "tsnode: %s\n", msock_config_problem_text(&r->problems[i], text));
  }
  if (r->n_left_out > 0) {
    fprintf(stderr, "tsnode: and %zu more\n", r->n_left_out);
  }
}

/* Help: every setting is a flag; what they mean is told by --generate-config. */
static void print_setting_names(void) {
  size_t column = 0;
  puts("\nAll settings of the configuration are flags too, explained by --generate-config:");
  for (size_t i = 0; i < msock_tsnode_schema.n_rows; i++) {
    char name[MSOCK_CONFIG_KEY_MAX];
    size_t len = 0;
    for (const char *c = msock_tsnode_schema.rows[i].key; *c && len + 1 < sizeof name; c++) {
      name[len++] = *c == '_' ? '-' : *c;
    }
    name[len] = '\0';
    column += len + 4;
    if (column > 90 || i == 0) {
      fputs(i == 0 ? "  " : "\n  ", stdout);
      column = len + 4;
    }
    printf("--%s%s", name, i + 1 < msock_tsnode_schema.n_rows ? ", " : "\n");
  }
}

static msock_exit check_config(const msock_settings *s) {
  char *text = msock_config_print(msock_settings_config(s));
  if (text == NULL) {
    return msock_cli_fail(MSOCK_EXIT_OTHER, "out of memory");
  }
  fputs(text, stdout);
  free(text);
  return MSOCK_EXIT_OK;
}

static msock_exit generate_config(void) {
  char *text = msock_config_generate(&msock_tsnode_schema);
  if (text == NULL) {
    return msock_cli_fail(MSOCK_EXIT_OTHER, "out of memory");
  }
  fputs(text, stdout);
  free(text);
  return MSOCK_EXIT_OK;
}

/* The interface and its routes are the kernel's to remove when a process ends; what can be left is
 * the socket of a daemon that was killed. */
static msock_exit clean_up(const msock_tsnode_config *v) {
  msock_unix_response r = {0};
  const msock_err e = msock_unix_request(v->socket, "GET", "/localapi/v0/status?peers=false", NULL,
                                         CLEANUP_ASK_US, &r);
  msock_unix_response_clear(&r);
  if (e == MSOCK_OK || e == MSOCK_ERR_TIMEOUT) {
    return msock_cli_fail(MSOCK_EXIT_REFUSED, "a daemon is running on %s: stop it first",
                          v->socket);
  }
  if (strcmp(v->tun, "none") != 0 && if_nametoindex(v->tun) != 0) {
    return msock_cli_fail(MSOCK_EXIT_REFUSED,
                          "interface %s is there, and not from a dead tsnode (its interface and "
                          "routes end with the process): see who holds it with: ip -d link show %s",
                          v->tun, v->tun);
  }
  if (unlink(v->socket) == 0) {
    fprintf(stderr, "tsnode: removed the socket %s\n", v->socket);
  } else if (errno != ENOENT) {
    return msock_cli_fail(MSOCK_EXIT_OTHER, "cannot remove %s: %s", v->socket, strerror(errno));
  }
  fprintf(stderr,
          "tsnode: nothing else is left: interface and routes end with the process, DNS and "
          "firewall are not touched by this build\n");
  return MSOCK_EXIT_OK;
}

static msock_exit run_node(const daemon_flags *f, msock_settings *s) {
  const msock_tsnode_config *v = msock_settings_values(s);
  char file[MSOCK_CLI_PATH_MAX + sizeof MSOCK_STATE_FILE + 1];
  const bool in_memory = f->state != NULL && strcmp(f->state, STATE_IN_MEMORY) == 0;
  if (f->state != NULL &&
      (strncmp(f->state, "kube:", 5) == 0 || strncmp(f->state, "arn:", 4) == 0)) {
    return msock_cli_fail(MSOCK_EXIT_NOT_BUILT, "--state takes a file, or mem:, in this build");
  }
  if (strlen(v->statedir) >= MSOCK_CLI_PATH_MAX) {
    return msock_cli_fail(MSOCK_EXIT_CONFIG, "statedir is too long");
  }
  snprintf(file, sizeof file, "%s/" MSOCK_STATE_FILE, v->statedir);
  if (f->state == NULL && geteuid() != 0) {
    make_parents(v->statedir);
  }
  const msock_node_options opt = {
      .state_file = in_memory  ? NULL
                    : f->state ? f->state
                               : file,
      .socket = v->socket,
      .tun = strcmp(v->tun, "none") == 0 ? NULL : v->tun,
      .settings = s,
  };
  return (msock_exit)msock_node_main(&opt);
}

static msock_exit with_settings(const daemon_flags *f, const msock_settings_sources *sources) {
  msock_config_report *report = calloc(1, sizeof *report); /* the stack stays for good */
  msock_settings *s = msock_settings_new(sources);
  msock_exit code = MSOCK_EXIT_CONFIG;
  if (s == NULL || report == NULL) {
    msock_settings_free(s);
    free(report);
    return msock_cli_fail(MSOCK_EXIT_OTHER, "out of memory");
  }
  const msock_err e = msock_settings_load(s, report);
  print_problems(report);
  free(report);
  if (e == MSOCK_OK) {
    code = f->check_config ? check_config(s)
           : f->cleanup    ? clean_up(msock_settings_values(s))
                           : run_node(f, s);
  }
  msock_settings_free(s);
  return code;
}

msock_exit msock_cmd_daemon(const msock_cli *cli, const msock_verb *verb, int argc, char **argv) {
  daemon_flags f = {0};
  msock_flag flags[16];
  words w = {0};
  char dir[MSOCK_CLI_PATH_MAX], socket[MSOCK_CLI_PATH_MAX + 16];
  msock_words no_words;
  const size_t n = own_flags(&f, flags);
  msock_exit code = part(flags, n, argc, argv, &w);
  if (code != MSOCK_EXIT_OK ||
      !msock_cli_flags(verb, flags, n, w.n_own, w.own, 0, &no_words, &code)) {
    if (code == MSOCK_EXIT_OK) {
      print_setting_names();
    }
    return code;
  }
  if (f.generate_config) {
    return generate_config();
  }
  /* In front, so that the flags of the settings themselves win. */
  if (f.verbose > 0 || f.debug) {
    put_first(&w, f.verbose >= 2 ? "--log-level=trace" : "--log-level=debug");
  }
  if (strcmp(cli->socket, msock_cli_default_socket(true, dir)) !=
      0) { /* tsnode --socket X daemon */
    snprintf(socket, sizeof socket, "--socket=%s", cli->socket);
    put_first(&w, socket);
  }
  const bool root = geteuid() == 0;
  const msock_settings_default defaults[] = {
      {"socket", cli->socket, "of this user"},
      {"statedir", msock_cli_default_statedir(dir), "of this user"},
      {"tun", "none", "without root"},
  };
  const char *named = f.config ? f.config : getenv("TSNODE_CONFIG");
  named = named != NULL && *named ? named : NULL;
  char *usual = msock_config_default_path(&msock_tsnode_schema, (const char *const *)environ, root);
  const msock_settings_sources sources = {
      .file = named ? named : usual,
      .file_is_optional = named == NULL,
      .environment = (const char *const *)environ,
      .flags = w.settings,
      .n_flags = w.n_settings,
      .defaults = defaults,
      .n_defaults = root ? 0 : 3,
  };
  code = with_settings(&f, &sources);
  free(usual);
  return code;
}
