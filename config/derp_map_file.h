/* config/derp_map_file.h: a DERP map from a file, in Headscale's YAML or tailscale's JSON form.
 *
 * Both forms have the same fields (derp.md 1.1, control.md 4.6) and differ in the case of their
 * names, which is ignored here: "regionid" and "RegionID" are one. A map is
 *   regions: {900: {regionid, regioncode, regionname, nomeasurenohome, nodes: [{name, regionid,
 *     hostname, certname, ipv4, ipv6, derpport, stunport, stunonly, insecurefortests, canport80,
 *     stuntestip, stun_plain}]}}
 *   HomeParams: {RegionScore: {"900": 0.8}}
 * A region that is null is left out. Errors: what a node could not dial or would mistake. Warnings:
 * ids that were left out and taken from the region or its key, unknown fields, families switched
 * off by a word other than "none". */
#ifndef MSOCK_CONFIG_DERP_MAP_FILE_H
#define MSOCK_CONFIG_DERP_MAP_FILE_H

#include "base/derp_map.h"
#include "config/document.h"
#include "config/report.h"

/* Reads the map of a document. MSOCK_OK fills out (caller: msock_derp_map_clear);
 * MSOCK_ERR_INVALID with all errors in report, or MSOCK_ERR_NOMEM, leaves it empty. */
msock_err msock_derp_map_from_document(const msock_document *d, msock_derp_map *out,
                                       msock_config_report *report);
/* The same from the bytes of a file. */
msock_err msock_derp_map_read(const char *file_name, const uint8_t *bytes, size_t len,
                              msock_derp_map *out, msock_config_report *report);

#endif
