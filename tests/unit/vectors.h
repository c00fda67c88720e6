/* tests/unit/vectors.h: open vector files.
 *
 * The directory is $TSNODE_VECTORS, else the tree's tests/vectors. Absent file: in the default
 * directory a failure, elsewhere a skip with a line. Empty or unreadable: always a failure. Nothing
 * about a particular set (counts, names, keys) may be built into a test. */
#ifndef MSOCK_TESTS_VECTORS_H
#define MSOCK_TESTS_VECTORS_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

/* Parsed file, or NULL when it is to be skipped (a line was printed). On failure prints a line, and
 * the program must end with vectors_exit. Caller: json_object_put. */
json_object *vectors_open(const char *file);
/* Raw bytes of the file under the same rules; caller frees. */
char *vectors_read(const char *file, size_t *len);
/* All files "<prefix>*.json" of the directory, sorted; at most cap. Gives the count; 0 follows the
 * rules of an absent file. names[i] are allocated. */
size_t vectors_list(const char *prefix, char **names, size_t cap);

/* Count a case of a file; ok = false prints "vectors: FILE: CASE: failed: WHY" and marks failure.
 */
void vectors_case(const char *file, const char *name, bool ok, const char *why, ...)
    __attribute__((format(printf, 4, 5)));
/* Prints "vectors: FILE: N cases". Zero cases is a failure. */
void vectors_done(const char *file);
/* Exit code of main: 0, 1, or 77 when everything was skipped. */
int vectors_exit(void);

/* Accessors that fail the whole program with a clear line when the field is missing or of another
 * type: a vector file that is not in the format must not pass by doing nothing. */
json_object *vectors_get(const char *file, json_object *o, const char *field);
const char *vectors_str(const char *file, json_object *o, const char *field);
/* Hex field to bytes, allocated; caller frees. */
unsigned char *vectors_hex(const char *file, json_object *o, const char *field, size_t *len);

#endif
