/* netcheck/captive.h: is somebody else answering in place of a relay (netcheck.md 2.5). Pure.
 *
 * A relay answers GET /generate_204 on port 80 with status 204 and the challenge of the request in
 * its own words; a portal that wants a login cannot know them. */
#ifndef MSOCK_NETCHECK_CAPTIVE_H
#define MSOCK_NETCHECK_CAPTIVE_H

#include <stdbool.h>

#include "base/addr.h"

#define MSOCK_CAPTIVE_CHALLENGE "X-Tailscale-Challenge" /* header of the request */
#define MSOCK_CAPTIVE_RESPONSE "X-Tailscale-Response"   /* header of the answer */
#define MSOCK_CAPTIVE_TEXT_MAX 64u                      /* either value, with its NUL */

/* "ts_" and the host that is asked. Returns buf. */
char *msock_captive_challenge(const msock_ip *host, char buf[static MSOCK_CAPTIVE_TEXT_MAX]);

/* An answer came: is it a portal's. response is the header's value, "" when it is absent. */
bool msock_captive_found(int status, const char *response, const char *challenge);

#endif
