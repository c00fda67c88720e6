/* derpd/map.h: the entry of this relay for a DERP map: Headscale's YAML or tailscale's JSON, with
 * the pin when the certificate was made here. */
#ifndef MSOCK_DERPD_MAP_H
#define MSOCK_DERPD_MAP_H

#include "config/derpd_config.h"
#include "derpd/options.h"
#include "derpd/text.h"

#define MSOCK_DERPD_REGION 900u /* 900 to 999 are for self-hosters: derp.md 1.1 */

/* pin: "" = the certificate is verified by its name. False with a sentence in why: a value that a
 * map cannot hold. Pure. */
bool msock_derpd_map_write(const msock_derpd_config *v, const msock_derpd_map_options *m,
                           const char *pin, msock_derpd_text *t, char *why, size_t cap);

#endif
