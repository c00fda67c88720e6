#include "tests/sim/nat.h"
#include "tests/unit/testing.h"

static sim_world *world;
static sim_nat_table *table;

static void make(sim_nat_config c) {
  sim_rng rng;
  world = sim_world_new(7);
  sim_rng_init(&rng, world, "box");
  table = sim_nat_table_new(&c, rng);
  ck_assert_ptr_nonnull(table);
}

static void done(void) {
  sim_nat_table_free(table);
  sim_world_free(world);
}

static msock_addr addr(const char *text) {
  msock_addr a;
  ck_assert_int_eq(msock_addr_parse(text, &a), MSOCK_OK);
  return a;
}

static const char *const IN = "192.168.1.2:41641";

static uint16_t out_at(uint64_t now_us, const char *inside, const char *remote) {
  const msock_addr i = addr(inside), r = addr(remote);
  return sim_nat_out(table, now_us, SIM_UDP, &i, &r);
}

static uint16_t out(const char *inside, const char *remote) {
  return out_at(0, inside, remote);
}

static bool in_at(uint64_t now_us, const char *remote, uint16_t port) {
  const msock_addr r = addr(remote);
  msock_addr got = {0};
  if (!sim_nat_in(table, now_us, SIM_UDP, port, &r, &got)) {
    return false;
  }
  const msock_addr want = addr(IN);
  ck_assert(msock_addr_equal(&got, &want));
  return true;
}

static bool in(const char *remote, uint16_t port) {
  return in_at(0, remote, port);
}

/* What is equal of the ports towards: the same remote; another port of it; another remote. */
static const struct {
  sim_mapping mapping;
  bool other_port, other_ip;
} mappings[] = {
    {SIM_EIM, true, true},
    {SIM_ADM, true, false},
    {SIM_EDM_SEQUENTIAL, false, false},
    {SIM_EDM_RANDOM, false, false},
};

START_TEST(mapping_depends_on_what_it_says) {
  make((sim_nat_config){.mapping = mappings[_i].mapping});
  const uint16_t first = out(IN, "198.51.100.1:1000");
  ck_assert_uint_ge(first, SIM_NAT_FIRST_PORT);
  ck_assert_uint_eq(out(IN, "198.51.100.1:1000"), first);
  ck_assert_int_eq(out(IN, "198.51.100.1:1001") == first, mappings[_i].other_port);
  ck_assert_int_eq(out(IN, "198.51.100.2:1000") == first, mappings[_i].other_ip);
  ck_assert_uint_ne(out("192.168.1.2:41642", "198.51.100.1:1000"), first);
  ck_assert_uint_ne(out("192.168.1.3:41641", "198.51.100.1:1000"), first);
  done();
}
END_TEST

START_TEST(sequential_ports_are_neighbours) {
  make((sim_nat_config){.mapping = SIM_EDM_SEQUENTIAL});
  const uint16_t first = out(IN, "198.51.100.1:1000");
  ck_assert_uint_eq(out(IN, "198.51.100.2:1000"), first + 1u);
  ck_assert_uint_eq(out(IN, "198.51.100.3:1000"), first + 2u);
  done();
}
END_TEST

START_TEST(random_ports_are_not) {
  uint32_t neighbours = 0;
  make((sim_nat_config){.mapping = SIM_EDM_RANDOM});
  uint16_t last = out(IN, "198.51.100.1:1");
  for (uint16_t k = 0; k < 100; k++) {
    const msock_addr i = addr(IN),
                     r = {.ip = msock_ip_v4(198, 51, 100, 2), .port = (uint16_t)(k + 1)};
    const uint16_t port = sim_nat_out(table, 0, SIM_UDP, &i, &r);
    neighbours += port == last + 1u;
    last = port;
  }
  ck_assert_uint_le(neighbours, 1);
  done();
}
END_TEST

/* Who gets in after one packet to 198.51.100.1:1000. */
static const struct {
  sim_filtering filtering;
  bool other_port, other_ip;
} filters[] = {{SIM_EIF, true, true}, {SIM_ADF, true, false}, {SIM_APDF, false, false}};

START_TEST(filter_lets_in_what_it_says) {
  make((sim_nat_config){.mapping = SIM_EIM, .filtering = filters[_i].filtering});
  const uint16_t port = out(IN, "198.51.100.1:1000");
  ck_assert(in("198.51.100.1:1000", port));
  ck_assert_int_eq(in("198.51.100.1:1001", port), filters[_i].other_port);
  ck_assert_int_eq(in("198.51.100.2:1000", port), filters[_i].other_ip);
  ck_assert(!in("198.51.100.1:1000", (uint16_t)(port + 1)));
  out(IN, "198.51.100.2:1000"); /* the same mapping, now also open for this one */
  ck_assert(in("198.51.100.2:1000", port));
  done();
}
END_TEST

START_TEST(mapping_ends_without_outbound_traffic) {
  make((sim_nat_config){.mapping = SIM_EIM, .filtering = SIM_EIF, .udp_us = 30 * MSOCK_SEC});
  const uint16_t port = out_at(0, IN, "198.51.100.1:1000");
  ck_assert(in_at(30 * MSOCK_SEC - 1, "198.51.100.1:1000", port)); /* does not refresh */
  ck_assert(!in_at(30 * MSOCK_SEC, "198.51.100.1:1000", port));
  ck_assert_uint_eq(sim_nat_count(table, 30 * MSOCK_SEC - 1), 1);
  ck_assert_uint_eq(sim_nat_count(table, 30 * MSOCK_SEC), 0);
  ck_assert_uint_ne(out_at(30 * MSOCK_SEC, IN, "198.51.100.1:1000"), port);
  done();
}
END_TEST

START_TEST(outbound_traffic_refreshes) {
  make((sim_nat_config){.mapping = SIM_EIM, .filtering = SIM_APDF, .udp_us = 30 * MSOCK_SEC});
  const uint16_t port = out_at(0, IN, "198.51.100.1:1000");
  ck_assert_uint_eq(out_at(29 * MSOCK_SEC, IN, "198.51.100.9:9"), port);
  ck_assert(in_at(58 * MSOCK_SEC, "198.51.100.1:1000", port));
  done();
}
END_TEST

START_TEST(port_is_preserved_when_free) {
  make((sim_nat_config){.mapping = SIM_EIM, .preserve_port = true});
  ck_assert_uint_eq(out(IN, "198.51.100.1:1000"), 41641);
  ck_assert_uint_ne(out("192.168.1.3:41641", "198.51.100.1:1000"), 41641);
  done();
}
END_TEST

START_TEST(table_is_bounded_and_the_longest_unused_goes) {
  make((sim_nat_config){.mapping = SIM_EDM_RANDOM, .filtering = SIM_EIF, .table = 2});
  const uint16_t a = out_at(1, IN, "198.51.100.1:1"), b = out_at(2, IN, "198.51.100.1:2");
  ck_assert_uint_eq(out_at(3, IN, "198.51.100.1:1"), a);
  const uint16_t c = out_at(4, IN, "198.51.100.1:3");
  ck_assert_uint_eq(sim_nat_count(table, 4), 2);
  ck_assert(in_at(4, "198.51.100.1:1", a));
  ck_assert(!in_at(4, "198.51.100.1:2", b));
  ck_assert(in_at(4, "198.51.100.1:3", c));
  done();
}
END_TEST

START_TEST(flush_forgets_one_socket_or_all) {
  make((sim_nat_config){.mapping = SIM_EIM, .filtering = SIM_EIF});
  const uint16_t a = out(IN, "198.51.100.1:1"), b = out("192.168.1.3:1", "198.51.100.1:1");
  const msock_addr other = addr("192.168.1.3:1");
  msock_addr got;
  sim_nat_flush_socket(table, &other);
  ck_assert(in("198.51.100.1:1", a));
  ck_assert(!sim_nat_peek(table, SIM_UDP, b, &got));
  sim_nat_flush(table);
  ck_assert(!in("198.51.100.1:1", a));
  done();
}
END_TEST

START_TEST(forward_leads_in_and_its_answers_leave_by_it) {
  const msock_addr inside = addr(IN);
  make((sim_nat_config){.mapping = SIM_EDM_RANDOM, .filtering = SIM_APDF});
  sim_nat_forward(table, 41641, &inside);
  ck_assert_uint_ne(out(IN, "198.51.100.1:1000"), 41641); /* not an answer */
  ck_assert(in("198.51.100.7:7", 41641));
  ck_assert_uint_eq(out(IN, "198.51.100.7:7"), 41641);
  sim_nat_flush(table);
  ck_assert(in_at(86400 * MSOCK_SEC, "198.51.100.7:7", 41641));
  done();
}
END_TEST

START_TEST(streams_have_mappings_of_their_own) {
  const msock_addr i = addr(IN), r = addr("198.51.100.1:443"), s = addr("198.51.100.2:443");
  msock_addr got;
  make((sim_nat_config){.mapping = SIM_EIM, .filtering = SIM_EIF, .udp_us = MSOCK_SEC});
  const uint16_t port = sim_nat_out(table, 0, SIM_TCP, &i, &r);
  ck_assert_uint_ne(sim_nat_out(table, 0, SIM_TCP, &i, &s), port);
  ck_assert(sim_nat_in(table, 3600 * MSOCK_SEC, SIM_TCP, port, &r, &got));
  ck_assert(!sim_nat_in(table, 0, SIM_TCP, port, &s, &got));
  ck_assert(!sim_nat_in(table, 0, SIM_UDP, port, &r, &got));
  done();
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_loop_test(tc, mapping_depends_on_what_it_says, 0, 4);
  tcase_add_test(tc, sequential_ports_are_neighbours);
  tcase_add_test(tc, random_ports_are_not);
  tcase_add_loop_test(tc, filter_lets_in_what_it_says, 0, 3);
  tcase_add_test(tc, mapping_ends_without_outbound_traffic);
  tcase_add_test(tc, outbound_traffic_refreshes);
  tcase_add_test(tc, port_is_preserved_when_free);
  tcase_add_test(tc, table_is_bounded_and_the_longest_unused_goes);
  tcase_add_test(tc, flush_forgets_one_socket_or_all);
  tcase_add_test(tc, forward_leads_in_and_its_answers_leave_by_it);
  tcase_add_test(tc, streams_have_mappings_of_their_own);
  return testing_main("nat", tc);
}
