/* derpd/admission.h: who may use the relay: key list, shared token, admission URL. All that are
 * configured must say yes; what cannot be found out is no (derp.md 4.5, but closed by default).
 *
 * The URL is asked by POST {"NodePublic": "nodekey:...", "Source": "<ip>"}; 200 with
 * {"Allow": true} admits. Answers are cached; while the URL does not answer, a key that it admitted
 * not long ago is admitted again. */
#ifndef MSOCK_DERPD_ADMISSION_H
#define MSOCK_DERPD_ADMISSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "config/derpd_config.h"
#include "derp/server.h"
#include "io/http.h"

#define MSOCK_DERPD_ADMISSION_CACHE 16384u /* answers; two keys of one slot push each other out */
#define MSOCK_DERPD_ADMISSION_WAITING                                                              \
  4096u                                  /* questions that wait for a free call; more: refused     \
                                          */
#define MSOCK_DERPD_ADMISSION_CALLS 32u  /* under way at a time */
#define MSOCK_DERPD_ADMISSION_BODY 4096u /* of an answer: derp.md 4.5 */

typedef struct msock_derpd_keys { /* sorted */
  msock_node_key *v;
  size_t n;
} msock_derpd_keys;
bool msock_derpd_keys_have(const msock_derpd_keys *k, const msock_node_key *key);

typedef struct msock_derpd_admission_stats {
  uint64_t asked;                 /* questions of the core */
  uint64_t admitted, refused;     /* answers to it */
  uint64_t url_calls, url_errors; /* errors: no answer, or one that is none */
  uint64_t cache_hits;
  uint64_t stale; /* admitted by an old answer while the URL was silent */
  uint64_t failed_open;
} msock_derpd_admission_stats;

typedef struct msock_derpd_admission msock_derpd_admission;
/* Borrows all for life. answer: given once per question, perhaps inside ask. */
msock_derpd_admission *
msock_derpd_admission_new(msock_http *http, const msock_log *log, const msock_env *env,
                          void (*answer)(void *ctx, uint32_t conn, bool admit), void *ctx);
void msock_derpd_admission_free(msock_derpd_admission *a);
/* Settings and key list from now on, both borrowed until the next call; has_list: there is a list,
 * even an empty one. Cached answers are asked again. */
void msock_derpd_admission_use(msock_derpd_admission *a, const msock_derpd_admission_config *v,
                               const msock_derpd_keys *list, bool has_list);
void msock_derpd_admission_ask(msock_derpd_admission *a, uint64_t now_us,
                               const msock_derp_question *q, bool has_token);
msock_derpd_admission_stats msock_derpd_admission_get_stats(const msock_derpd_admission *a);
/* {"Allow": true}: derp.md 4.5. Pure. */
bool msock_derpd_admission_allows(const uint8_t *body, size_t len);

#endif
