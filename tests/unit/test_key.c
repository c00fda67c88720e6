#include <stdio.h>
#include <string.h>

#include "base/key.h"
#include "tests/unit/testing.h"

#define HEX64 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

/* closes: CTRL-01 */
START_TEST(every_text_form_round_trips) {
  char buf[MSOCK_KEY_TEXT_MAX];
  msock_node_key node;
  msock_disco_key disco;
  msock_machine_key machine;
  msock_challenge_key challenge;
  msock_node_private node_private;
  msock_machine_private machine_private;

  ck_assert_int_eq(msock_node_key_parse("nodekey:" HEX64, &node), MSOCK_OK);
  ck_assert_str_eq(msock_node_key_text(&node, buf), "nodekey:" HEX64);
  ck_assert_int_eq(msock_disco_key_parse("discokey:" HEX64, &disco), MSOCK_OK);
  ck_assert_str_eq(msock_disco_key_text(&disco, buf), "discokey:" HEX64);
  ck_assert_int_eq(msock_machine_key_parse("mkey:" HEX64, &machine), MSOCK_OK);
  ck_assert_str_eq(msock_machine_key_text(&machine, buf), "mkey:" HEX64);
  ck_assert_int_eq(msock_challenge_key_parse("chalpub:" HEX64, &challenge), MSOCK_OK);
  ck_assert_str_eq(msock_challenge_key_text(&challenge, buf), "chalpub:" HEX64);
  ck_assert_int_eq(msock_node_private_parse("privkey:" HEX64, &node_private), MSOCK_OK);
  ck_assert_str_eq(msock_node_private_text(&node_private, buf), "privkey:" HEX64);
  ck_assert_int_eq(msock_machine_private_parse("privkey:" HEX64, &machine_private), MSOCK_OK);
  ck_assert_str_eq(msock_machine_private_text(&machine_private, buf), "privkey:" HEX64);
}
END_TEST

static const char *const refused[] = {
    "discokey:" HEX64,
    "mkey:" HEX64,
    "nodekey:",
    "nodekey:" HEX64 "0",
    "nodekey:0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", /* 63 digits */
    "nodekey:00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff",
    "nodekey:g0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    " nodekey:" HEX64,
    "nodekey:" HEX64 "\n",
    "NODEKEY:" HEX64,
    "",
};

/* closes: CTRL-01 */
START_TEST(other_texts_are_refused) {
  msock_node_key k = {{1}};
  ck_assert_msg(msock_node_key_parse(refused[_i], &k) == MSOCK_ERR_INVALID, "%s", refused[_i]);
  ck_assert_uint_eq(k.b[0], 1);
}
END_TEST

START_TEST(short_form_is_the_first_base64_of_the_key) {
  char buf[MSOCK_KEY_SHORT_MAX];
  msock_node_key k = {{0}};
  ck_assert(msock_node_key_is_zero(&k));
  ck_assert_str_eq(msock_node_key_short(&k, buf), "[AAAAA]");
  memset(k.b, 0xff, sizeof k.b);
  ck_assert_str_eq(msock_node_key_short(&k, buf), "[/////]");
  memcpy(k.b, "Man ", 4); /* base64 TWFuI... */
  ck_assert_str_eq(msock_node_key_short(&k, buf), "[TWFuI]");
  ck_assert(!msock_node_key_is_zero(&k));
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_test(tc, every_text_form_round_trips);
  tcase_add_loop_test(tc, other_texts_are_refused, 0, (int)(sizeof refused / sizeof *refused));
  tcase_add_test(tc, short_form_is_the_first_base64_of_the_key);
  return testing_main("key", tc);
}
