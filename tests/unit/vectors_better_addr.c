/* disco.json, better_addr: every ordered pair of paths against the reference's verdict.
 * closes: PATH-06 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "magicsock/choice.h"
#include "tests/unit/vectors.h"

#define FILE_NAME "disco.json"

static msock_choice path_of(json_object *o) {
  msock_choice c = {0};
  json_object *vni = NULL;
  const char *addr = vectors_str(FILE_NAME, o, "addr");
  if (addr[0] != '\0' && msock_addr_parse(addr, &c.addr) != MSOCK_OK) {
    fprintf(stderr, "vectors: %s: not an address: %s\n", FILE_NAME, addr);
    exit(1);
  }
  /* Nanoseconds: the comparison takes any unit. Written as a number or as decimal text. */
  c.latency_us =
      strtoull(json_object_get_string(vectors_get(FILE_NAME, o, "latency_ns")), NULL, 10);
  c.mtu_bytes = (uint32_t)json_object_get_int64(vectors_get(FILE_NAME, o, "mtu"));
  if (json_object_object_get_ex(o, "vni", &vni)) {
    c.vni = (uint32_t)json_object_get_int64(vni);
  }
  return c;
}

int main(void) {
  json_object *root = vectors_open(FILE_NAME);
  if (root == NULL) {
    return vectors_exit();
  }
  json_object *cases = vectors_get(FILE_NAME, root, "better_addr");
  for (size_t i = 0; i < json_object_array_length(cases); i++) {
    json_object *o = json_object_array_get_idx(cases, i);
    const msock_choice a = path_of(vectors_get(FILE_NAME, o, "a"));
    const msock_choice b = path_of(vectors_get(FILE_NAME, o, "b"));
    const bool want = json_object_get_boolean(vectors_get(FILE_NAME, o, "a_better"));
    char name[48];
    snprintf(name, sizeof name, "better_addr[%zu]", i);
    vectors_case(FILE_NAME, name, msock_choice_better(&a, &b) == want, "want %d", want);
  }
  vectors_done(FILE_NAME);
  json_object_put(root);
  return vectors_exit();
}
