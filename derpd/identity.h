/* derpd/identity.h: who the relay is: its DERP key, and its certificate.
 *
 * The key file has derper's form, {"PrivateKey": "privkey:<64 hex>"} (derp.md 4.6), is made once
 * with mode 0600 and refused when group or other may read it. A certificate that is made here is
 * kept beside it, so that its pin outlives a restart. */
#ifndef MSOCK_DERPD_IDENTITY_H
#define MSOCK_DERPD_IDENTITY_H

#include "base/env.h"
#include "base/err.h"
#include "base/key.h"
#include "config/derpd_config.h"
#include "io/tls_server.h"

#define MSOCK_DERPD_WHY_MAX 512u
#define MSOCK_DERPD_PATH_MAX 4096u
#define MSOCK_DERPD_KEY_NAME "derpd.key"
#define MSOCK_DERPD_CERT_NAME "self-signed.pem"
#define MSOCK_DERPD_CERT_DAYS 3650u /* a pin that dies is an outage: ours; derper: 365 */

/* Reads the key, or makes it; *made tells. The caller wipes it. MSOCK_ERR_DENIED: looser mode;
 * MSOCK_ERR_INVALID: not a key file; with a sentence in why. */
msock_err msock_derpd_key_load(const msock_derpd_config *v, const msock_env *env,
                               msock_node_private *key, bool *made,
                               char why[static MSOCK_DERPD_WHY_MAX]);
/* {"PrivateKey": ...}; MSOCK_ERR_INVALID. Pure. */
msock_err msock_derpd_key_parse(const char *text, size_t len, msock_node_private *key);

/* The name that a certificate made here is valid for: hostname, else the first address that is
 * listened on, else the machine's name. Returns buf. */
char *msock_derpd_cert_host(const msock_derpd_config *v, char buf[static 256]);
/* The certificate: from cert and cert_key, else the kept one that is valid for the host, else a new
 * one, kept if that is possible (why says when not). The meta certificate for key is appended. */
msock_err msock_derpd_cert_load(const msock_derpd_config *v, const msock_node_key *key,
                                uint64_t wall_us, msock_tls_identity **out,
                                char why[static MSOCK_DERPD_WHY_MAX]);

#endif
