/* config/tsnode_alpha.h: tailscaled's configuration file ("version": "alpha0") on tsnode's
 * settings.
 *
 * Field names and meanings: ipn.ConfigVAlpha of tailscaled 1.102, requirements.md 5.4. Names are
 * compared without regard to case, as Go's JSON decoder does. */
#ifndef MSOCK_CONFIG_TSNODE_ALPHA_H
#define MSOCK_CONFIG_TSNODE_ALPHA_H

#include "config/schema.h"

/* True when the document is a mapping with a version field. */
bool msock_tsnode_is_alpha(const msock_document *d);

/* Applies all fields. Another version, an unknown field or a bad value is an error; a field that is
 * not in this build, and asks for something, a warning. */
msock_err msock_tsnode_apply_alpha(msock_config *c, const msock_document *d,
                                   msock_config_report *report);

#endif
