/* config/document.h: one reader for YAML and JSON documents: bytes in, a small tree out.
 *
 * Every node keeps the line and column where it was written, so that messages can point there. It
 * is YAML by libyaml, without what a configuration has no use for: anchors, aliases, tags, several
 * documents, keys that are not text, and a key written twice are refused. JSON is read as the YAML
 * that it is; a document that begins with "{" may hold the comments that tailscaled's configuration
 * allows, also before it (line and block ones). Numbers stay text: 2^53 is not rounded.
 *
 * Pure: bytes and a file name for messages; who reads the file is the caller's matter. */
#ifndef MSOCK_CONFIG_DOCUMENT_H
#define MSOCK_CONFIG_DOCUMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "config/report.h"

/* Limits. All are ours; the largest known document, the public DERP map, has 3,000 nodes. */
#define MSOCK_DOCUMENT_BYTES_MAX (1024u * 1024u)
#define MSOCK_DOCUMENT_DEPTH_MAX 32u    /* nested sequences and mappings */
#define MSOCK_DOCUMENT_NODES_MAX 65536u /* scalars, sequences and mappings together */
#define MSOCK_DOCUMENT_KEYS_MAX 1024u   /* keys of one mapping */

typedef enum msock_document_kind {
  MSOCK_DOCUMENT_SCALAR = 0,
  MSOCK_DOCUMENT_SEQUENCE,
  MSOCK_DOCUMENT_MAPPING
} msock_document_kind;

/* Belongs to its document; all text is NUL-terminated UTF-8 without a NUL inside. */
typedef struct msock_document_node {
  msock_document_kind kind;
  bool quoted;           /* scalar in quotes or a block: never null */
  uint32_t line, column; /* of the value, from 1 */
  const char *text;      /* scalar; "" for the other kinds */
  const char *key;       /* child of a mapping; NULL otherwise */
  uint32_t key_line, key_column;
  size_t n_children;
  const struct msock_document_node *first; /* children in the order of the file */
  const struct msock_document_node *next;  /* next sibling */
} msock_document_node;

typedef struct msock_document msock_document;

/* Reads a whole document. file_name is copied and only used in messages. An empty document gives a
 * null scalar as its root. NULL, with one error in report, when it is refused or memory is short.
 * Free with msock_document_free, which wipes all text. */
msock_document *msock_document_read(const char *file_name, const uint8_t *bytes, size_t len,
                                    msock_config_report *report);
void msock_document_free(msock_document *d);

const msock_document_node *msock_document_root(const msock_document *d);
const char *msock_document_file_name(const msock_document *d);

/* "FILE:LINE:COLUMN" of the value, or of the key (the value's where there is none). Returns buf. */
char *msock_document_where(const msock_document *d, const msock_document_node *n,
                           char buf[static MSOCK_CONFIG_WHERE_MAX]);
char *msock_document_key_where(const msock_document *d, const msock_document_node *n,
                               char buf[static MSOCK_CONFIG_WHERE_MAX]);

/* Child with that key; NULL when absent or mapping is not a mapping. */
const msock_document_node *msock_document_find(const msock_document_node *mapping, const char *key);
/* True for a plain null, ~ or nothing at all. */
bool msock_document_is_null(const msock_document_node *n);

#endif
