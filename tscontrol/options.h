/* tscontrol/options.h: the command line of tscontrol, checked, with its files read. */
#ifndef MSOCK_TSCONTROL_OPTIONS_H
#define MSOCK_TSCONTROL_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/derp_map.h"
#include "base/log.h"
#include "config/exit_codes.h"

#define MSOCK_TSCONTROL_WHY_MAX 1200u
#define MSOCK_TSCONTROL_KEYS_MAX 64u
#define MSOCK_TSCONTROL_FILE_MAX (1u << 20) /* policy, DERP map, certificate */

typedef enum msock_tscontrol_relay_kind {
  MSOCK_TSCONTROL_RELAY_OWN = 0, /* ours, at relay */
  MSOCK_TSCONTROL_RELAY_MAP,     /* those of derp_map */
  MSOCK_TSCONTROL_RELAY_NONE
} msock_tscontrol_relay_kind;

typedef struct msock_tscontrol_secret {
  char *text; /* owned, wiped */
  size_t len;
} msock_tscontrol_secret;

typedef struct msock_tscontrol_options { /* texts of argv are borrowed */
  bool help, version;                    /* print it and stop */
  msock_addr listen;
  const char *state; /* NULL: in memory */
  const char *domain;
  const char *policy_file; /* NULL: allow all */
  char *policy;            /* the wire's form, owned */
  const char *auth_keys[MSOCK_TSCONTROL_KEYS_MAX];
  size_t n_auth_keys;
  msock_tscontrol_secret key_texts[MSOCK_TSCONTROL_KEYS_MAX]; /* what auth_keys points into */
  size_t n_key_texts;
  msock_tscontrol_relay_kind relay_kind;
  msock_addr relay; /* port 0: any */
  char *relay_pem;  /* NULL: a certificate is made; owned and wiped */
  char relay_name[256];
  msock_derp_map derp_map;
  const char *derp_from; /* what derp_map comes from, for the banner */
  uint32_t fake_peers;
  msock_log_level level;
} msock_tscontrol_options;

/* MSOCK_EXIT_OK; MSOCK_EXIT_USAGE or MSOCK_EXIT_CONFIG (a file) with the reason in why. Clear it in
 * any case. */
msock_exit msock_tscontrol_options_parse(int argc, char **argv, msock_tscontrol_options *out,
                                         char why[static MSOCK_TSCONTROL_WHY_MAX]);
void msock_tscontrol_options_clear(msock_tscontrol_options *o);
void msock_tscontrol_print_help(void);

#endif
