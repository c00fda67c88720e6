/* The state file: any text; what is accepted must print to a text that reads back the same, and the
 * keys must be gone from the text that was read. */
#include <stdlib.h>
#include <string.h>

#include "crypto/wipe.h"
#include "node/state.h"
#include "tests/fuzz/fuzzing.h"

/* A key that is a small number looks like what stands for a key once they are taken out. */
static bool is_stand_in(const msock_node_private *k) {
  static const uint8_t zeros[sizeof k->b - 1];
  return memcmp(k->b, zeros, sizeof zeros) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static msock_state state, again;
  msock_reader r = msock_reader_init(data, size);
  char why[MSOCK_WHY_MAX] = "";
  size_t len = 0, printed_len = 0, second_len = 0;
  char *text = fuzz_rest_text(&r, &len);

  memset(&state, 0xee, sizeof state);
  const msock_err e = msock_state_parse(text, len, &state, why);
  if (e != MSOCK_OK) {
    FUZZ_CHECK(e == MSOCK_ERR_INVALID || e == MSOCK_ERR_UNKNOWN || e == MSOCK_ERR_NOMEM);
    FUZZ_CHECK(why[0] != '\0' && memchr(why, '\0', sizeof why) != NULL);
    FUZZ_CHECK(state.server_url[0] == (char)0xee); /* untouched */
    free(text);
    return 0;
  }
  char *printed = msock_state_print(&state, &printed_len);
  FUZZ_CHECK(printed != NULL && strlen(printed) == printed_len);
  char *copy = strdup(printed);
  FUZZ_CHECK(msock_state_parse(copy, printed_len, &again, why) == MSOCK_OK);
  char *second = msock_state_print(&again, &second_len);
  FUZZ_CHECK(second != NULL && strcmp(printed, second) == 0);
  FUZZ_CHECK(msock_ct_equal(state.machine_private.b, again.machine_private.b, 32));
  if (msock_state_has_node_key(&state) && !is_stand_in(&state.node_private)) {
    char key[MSOCK_KEY_TEXT_MAX];
    const char *secret = msock_node_private_text(&state.node_private, key);
    FUZZ_CHECK(memmem(text, len, secret, strlen(secret)) == NULL);
  }
  free(second);
  free(copy);
  free(printed);
  free(text);
  msock_state_clear(&state);
  msock_state_clear(&again);
  return 0;
}
