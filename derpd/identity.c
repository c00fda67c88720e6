#include "derpd/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crypto/wipe.h"
#include "crypto/x25519.h"
#include "io/file.h"

#define KEY_FILE_MAX 4096u
#define PEM_FILE_MAX 262144u
#define HOST_NOTE "# made by derpd for "
#define NAME_TEXT_MAX 256u

static void say(char *why, const char *text) {
  snprintf(why, MSOCK_DERPD_WHY_MAX, "%s", text);
}

/* --- the key --- */

/* The value of "PrivateKey": the file is written by derper or by us, so no more of JSON is read
 * than this one member. */
msock_err msock_derpd_key_parse(const char *text, size_t len, msock_node_private *key) {
  static const char name[] = "\"PrivateKey\"";
  char value[MSOCK_KEY_TEXT_MAX];
  const char *at = memmem(text, len, name, sizeof name - 1);
  const char *end = text + len;
  if (at == NULL) {
    return MSOCK_ERR_INVALID;
  }
  at += sizeof name - 1;
  while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r' || *at == ':')) {
    at++;
  }
  if (at == end || *at++ != '"') {
    return MSOCK_ERR_INVALID;
  }
  const char *close = memchr(at, '"', (size_t)(end - at));
  if (close == NULL || (size_t)(close - at) >= sizeof value) {
    return MSOCK_ERR_INVALID;
  }
  memcpy(value, at, (size_t)(close - at));
  value[close - at] = '\0';
  const msock_err e = msock_node_private_parse(value, key);
  msock_wipe(value, sizeof value);
  return e;
}

static msock_err write_key(const char *dir, const char *name, const msock_node_private *key,
                           char *why) {
  char text[MSOCK_KEY_TEXT_MAX], file[MSOCK_KEY_TEXT_MAX + 32];
  msock_node_private_text(key, text);
  const int n = snprintf(file, sizeof file, "{\n\t\"PrivateKey\": \"%s\"\n}\n", text);
  char reason[MSOCK_FILE_WHY_MAX];
  const msock_err e = msock_file_write(dir, name, file, (size_t)n, reason);
  msock_wipe(text, sizeof text);
  msock_wipe(file, sizeof file);
  if (e != MSOCK_OK) {
    say(why, reason);
  }
  return e;
}

/* dir and name of a path; false: too long. */
static bool split(const char *path, char dir[static MSOCK_DERPD_PATH_MAX], const char **name) {
  const char *slash = strrchr(path, '/');
  const size_t n = slash == NULL || slash == path ? 1 : (size_t)(slash - path);
  if (n >= MSOCK_DERPD_PATH_MAX) {
    return false;
  }
  memcpy(dir, slash == NULL ? "." : path, n);
  dir[n] = '\0';
  *name = slash == NULL ? path : slash + 1;
  return true;
}

static bool key_path(const msock_derpd_config *v, char path[static MSOCK_DERPD_PATH_MAX]) {
  const int n = v->key_file[0]
                    ? snprintf(path, MSOCK_DERPD_PATH_MAX, "%s", v->key_file)
                    : snprintf(path, MSOCK_DERPD_PATH_MAX, "%s/" MSOCK_DERPD_KEY_NAME, v->statedir);
  return n > 0 && (size_t)n < MSOCK_DERPD_PATH_MAX;
}

msock_err msock_derpd_key_load(const msock_derpd_config *v, const msock_env *env,
                               msock_node_private *key, bool *made,
                               char why[static MSOCK_DERPD_WHY_MAX]) {
  char path[MSOCK_DERPD_PATH_MAX], dir[MSOCK_DERPD_PATH_MAX], reason[MSOCK_FILE_WHY_MAX];
  const char *name = NULL;
  char *text = NULL;
  size_t len = 0;
  *made = false;
  if (!key_path(v, path) || !split(path, dir, &name)) {
    say(why, "the path of the key file is too long");
    return MSOCK_ERR_INVALID;
  }
  msock_err e = msock_file_read(path, KEY_FILE_MAX, true, &text, &len, reason);
  if (e == MSOCK_ERR_UNKNOWN) {
    *made = true;
    msock_node_private_generate(env, key);
    return write_key(dir, name, key, why);
  }
  if (e != MSOCK_OK) {
    say(why, reason);
    return e;
  }
  e = msock_derpd_key_parse(text, len, key);
  if (e != MSOCK_OK) {
    snprintf(why, MSOCK_DERPD_WHY_MAX,
             "%.300s is not a key file ({\"PrivateKey\": \"privkey:...\"}); restore it, or move it "
             "away and a new key is made (clients then see another relay)",
             path);
  }
  msock_wipe(text, len);
  free(text);
  return e;
}

/* --- the certificate --- */

char *msock_derpd_cert_host(const msock_derpd_config *v, char buf[static 256]) {
  msock_addr a;
  if (v->hostname[0]) {
    snprintf(buf, NAME_TEXT_MAX, "%s", v->hostname);
    return buf;
  }
  for (size_t i = 0; i < v->listen.n; i++) {
    if (msock_derpd_parse_listen(v->listen.v[i], &a) == MSOCK_OK && a.ip.family != 0 &&
        !msock_ip_is_unspecified(&a.ip)) {
      return msock_ip_text(&a.ip, buf);
    }
  }
  if (gethostname(buf, NAME_TEXT_MAX) != 0 || buf[0] == '\0') {
    snprintf(buf, NAME_TEXT_MAX, "localhost");
  }
  buf[NAME_TEXT_MAX - 1] = '\0';
  return buf;
}

static char *read_pem(const char *path, bool secret, char *why) {
  char reason[MSOCK_FILE_WHY_MAX];
  char *text = NULL;
  size_t len = 0;
  if (msock_file_read(path, PEM_FILE_MAX, secret, &text, &len, reason) != MSOCK_OK) {
    say(why, reason);
    return NULL;
  }
  return text;
}

static void drop(char *secret) {
  if (secret != NULL) {
    msock_wipe(secret, strlen(secret));
    free(secret);
  }
}

/* cert and cert_key as one PEM text. */
static msock_err from_files(const msock_derpd_config *v, msock_tls_identity **out, char *why) {
  char reason[MSOCK_TLS_WHY_MAX];
  char *cert = read_pem(v->cert, false, why);
  char *key = cert && v->cert_key[0] ? read_pem(v->cert_key, false, why) : NULL;
  char *both = NULL;
  msock_err e = MSOCK_ERR_IO;
  if (cert && (key || !v->cert_key[0])) {
    const size_t n = strlen(cert) + (key ? strlen(key) : 0) + 2;
    both = malloc(n);
    e = both ? MSOCK_OK : MSOCK_ERR_NOMEM;
    if (both) {
      snprintf(both, n, "%s\n%s", cert, key ? key : "");
      e = msock_tls_identity_from_pem(both, out, reason);
    }
    if (e != MSOCK_OK) {
      snprintf(why, MSOCK_DERPD_WHY_MAX, "%.200s%s%.200s: %.100s", v->cert,
               v->cert_key[0] ? " and " : "", v->cert_key, both ? reason : "out of memory");
    }
  }
  drop(both);
  drop(key);
  free(cert);
  return e;
}

/* The kept certificate, if it was made for this host. */
static bool from_state(const msock_derpd_config *v, const char *host, msock_tls_identity **out) {
  char path[MSOCK_DERPD_PATH_MAX], note[NAME_TEXT_MAX + sizeof HOST_NOTE + 1],
      why[MSOCK_TLS_WHY_MAX];
  snprintf(path, sizeof path, "%s/" MSOCK_DERPD_CERT_NAME, v->statedir);
  snprintf(note, sizeof note, HOST_NOTE "%s\n", host);
  char *text = read_pem(path, true, why);
  const bool ok = text && strncmp(text, note, strlen(note)) == 0 &&
                  msock_tls_identity_from_pem(text, out, why) == MSOCK_OK;
  drop(text);
  return ok;
}

static void keep(const msock_derpd_config *v, const char *host, const char *pem, char *why) {
  char reason[MSOCK_FILE_WHY_MAX];
  const size_t n = strlen(HOST_NOTE) + strlen(host) + 1 + strlen(pem);
  char *text = malloc(n + 1);
  if (text == NULL) {
    say(why, "the certificate is not kept: out of memory");
    return;
  }
  snprintf(text, n + 1, HOST_NOTE "%s\n%s", host, pem);
  if (msock_file_write(v->statedir, MSOCK_DERPD_CERT_NAME, text, n, reason) != MSOCK_OK) {
    snprintf(why, MSOCK_DERPD_WHY_MAX,
             "the certificate is not kept, its pin ends with this process: %s", reason);
  }
  drop(text);
}

static msock_err make(const msock_derpd_config *v, const char *host, uint64_t wall_us,
                      msock_tls_identity **out, char *why) {
  char reason[MSOCK_TLS_WHY_MAX];
  char *pem = NULL;
  msock_err e = msock_tls_self_signed_pem(host, MSOCK_DERPD_CERT_DAYS, wall_us, &pem, reason);
  e = e == MSOCK_OK ? msock_tls_identity_from_pem(pem, out, reason) : e;
  if (e == MSOCK_OK) {
    keep(v, host, pem, why);
  } else {
    say(why, reason);
  }
  drop(pem);
  return e;
}

msock_err msock_derpd_cert_load(const msock_derpd_config *v, const msock_node_key *key,
                                uint64_t wall_us, msock_tls_identity **out,
                                char why[static MSOCK_DERPD_WHY_MAX]) {
  char host[NAME_TEXT_MAX];
  msock_err e = MSOCK_OK;
  why[0] = '\0';
  msock_derpd_cert_host(v, host);
  if (v->cert[0]) {
    e = from_files(v, out, why);
  } else if (!from_state(v, host, out)) {
    e = make(v, host, wall_us, out, why);
  }
  if (e == MSOCK_OK) {
    /* A backend without TLS 1.3 has none: clients take the other way in. */
    (void)msock_tls_identity_add_meta(*out, key->b, wall_us);
  }
  return e;
}
