#include "tests/unit/io_testing.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/stream.h"
#include "io/unix_client.h"
#include "io/unix_server.h"
#include "tests/unit/testing.h"

static msock_loop *loop;
static msock_egress *eg;
static msock_unix_server *server;
static char path[64];
static const char *answer; /* NULL: say nothing */
static bool stop_after_answer;
static bool done;

typedef struct conn {
  msock_stream *s;
  char in[4096];
  size_t in_len, out_at;
  bool answering;
} conn;
static conn c;
static msock_unix_peer seen_peer;

static void on_bytes(void *ctx, const uint8_t *p, size_t len) {
  (void)ctx;
  ck_assert_uint_lt(c.in_len + len, sizeof c.in);
  memcpy(c.in + c.in_len, p, len);
  c.in_len += len;
  if (strstr(c.in, "\r\n\r\n") != NULL && answer != NULL) {
    c.answering = true;
    msock_stream_want_write(c.s);
    if (stop_after_answer) {
      msock_stream_finish(c.s);
    }
  }
}

static void tx_peek(void *ctx, const uint8_t **p, size_t *len) {
  (void)ctx;
  *p = c.answering ? (const uint8_t *)answer + c.out_at : NULL;
  *len = c.answering ? strlen(answer) - c.out_at : 0;
}

static void tx_consume(void *ctx, size_t n) {
  (void)ctx;
  c.out_at += n;
}

static void on_closed(void *ctx, msock_err err, const char *reason) {
  (void)ctx;
  (void)err;
  (void)reason;
}

static const msock_stream_handlers handlers = {
    .readable = on_bytes, .tx_peek = tx_peek, .tx_consume = tx_consume, .closed = on_closed};

static void on_accepted(void *ctx, int fd, const msock_unix_peer *peer) {
  (void)ctx;
  seen_peer = *peer;
  msock_stream_free(c.s);
  memset(&c, 0, sizeof c);
  ck_assert_int_eq(msock_stream_adopt(loop, fd, &handlers, &c, &c.s), MSOCK_OK);
}

static void setup(void) {
  memset(&c, 0, sizeof c);
  done = stop_after_answer = false;
  answer = NULL;
  loop = msock_loop_new(NULL);
  eg = io_test_egress(loop, MSOCK_PROFILE_PRIVACY_PROXY,
                      false); /* local sockets are allowed there */
  snprintf(path, sizeof path, "/tmp/tsnode-unix-%ld.sock", (long)getpid());
  unlink(path);
  ck_assert_int_eq(msock_unix_server_new(eg, path, 0600, on_accepted, NULL, &server), MSOCK_OK);
}

static void teardown(void) {
  msock_stream_free(c.s);
  msock_unix_server_free(server);
  msock_egress_free(eg);
  msock_loop_free(loop);
}

/* The blocking client runs in a thread of its own, as the command line does in a process. */
typedef struct request {
  const char *method, *body;
  uint64_t timeout_us;
  msock_err err;
  msock_unix_response r;
  int status;
  char lines[10][64];
  size_t n_lines, stop_at;
  bool watching;
  int pipe[2]; /* wakes the loop at the end */
} request;

static bool on_line(void *ctx, const char *text) {
  request *q = ctx;
  snprintf(q->lines[q->n_lines++], sizeof q->lines[0], "%s", text);
  return q->n_lines != q->stop_at;
}

static void *client(void *arg) {
  request *q = arg;
  q->err = q->watching ? msock_unix_request_lines(path, q->method, "/localapi/v0/watch", q->body,
                                                  q->timeout_us, on_line, q, &q->status)
                       : msock_unix_request(path, q->method, "/localapi/v0/status", q->body,
                                            q->timeout_us, &q->r);
  ck_assert_int_eq(write(q->pipe[1], "x", 1), 1);
  return NULL;
}

static void on_pipe(void *ctx, bool readable, bool writable) {
  (void)ctx;
  (void)readable;
  (void)writable;
  done = true;
}

static void serve(request *q) {
  pthread_t thread;
  if (q->timeout_us == 0) {
    q->timeout_us = 10 * MSOCK_SEC;
  }
  ck_assert_int_eq(pipe(q->pipe), 0);
  msock_loop_fd *w = msock_loop_fd_new(loop, q->pipe[0], on_pipe, NULL);
  msock_loop_fd_want(w, true, false);
  ck_assert_int_eq(pthread_create(&thread, NULL, client, q), 0);
  ck_assert(io_test_run(loop, &done, IO_TEST_DEADLINE_US));
  pthread_join(thread, NULL);
  msock_loop_fd_free(w);
  close(q->pipe[0]);
  close(q->pipe[1]);
}

START_TEST(a_request_its_answer_and_its_credentials) {
  request q = {.method = "POST", .body = "{\"a\":1}"};
  answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
  serve(&q);
  ck_assert_int_eq(q.err, MSOCK_OK);
  ck_assert_int_eq(q.r.status, 200);
  ck_assert_str_eq(q.r.body, "hello");
  ck_assert_int_eq(seen_peer.pid, getpid());
  ck_assert_uint_eq(seen_peer.uid, geteuid());
  ck_assert_uint_eq(seen_peer.gid, getegid());
  ck_assert_ptr_nonnull(strstr(c.in, "POST /localapi/v0/status HTTP/1.1\r\n"));
  ck_assert_ptr_nonnull(strstr(c.in, "Content-Length: 7\r\n"));
  msock_unix_response_clear(&q.r);
}
END_TEST

static const struct {
  const char *name, *answer;
  bool close;
  msock_err want;
  const char *body;
} answers[] = {
    {"until the end", "HTTP/1.1 200 OK\r\n\r\nabc", true, MSOCK_OK, "abc"},
    {"chunked",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: "
     "v\r\n\r\n",
     false, MSOCK_OK, "abcde"},
    {"no body", "HTTP/1.1 204 No Content\r\n\r\n", false, MSOCK_OK, ""},
    {"after a 1xx", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nz",
     false, MSOCK_OK, "z"},
    {"cut", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", true, MSOCK_ERR_INVALID, NULL},
    {"cut chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", true,
     MSOCK_ERR_INVALID, NULL},
    {"bad chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", false,
     MSOCK_ERR_INVALID, NULL},
    {"not HTTP", "SSH-2.0-OpenSSH\r\n\r\n", true, MSOCK_ERR_INVALID, NULL},
    {"nothing", "", true, MSOCK_ERR_INVALID, NULL},
};

START_TEST(answers_of_every_framing) {
  request q = {.method = "GET"};
  answer = answers[_i].answer;
  stop_after_answer = answers[_i].close;
  serve(&q);
  ck_assert_msg(q.err == answers[_i].want, "%s: %d", answers[_i].name, q.err);
  if (q.err == MSOCK_OK) {
    ck_assert_str_eq(q.r.body, answers[_i].body);
    msock_unix_response_clear(&q.r);
  }
}
END_TEST

START_TEST(a_silent_daemon_times_out) {
  request q = {.method = "GET", .timeout_us = 50 * MSOCK_MS};
  const uint64_t began_us = msock_loop_now_us();
  serve(&q);
  ck_assert_int_eq(q.err, MSOCK_ERR_TIMEOUT);
  ck_assert_uint_ge(msock_loop_now_us() - began_us, 50 * MSOCK_MS);
}
END_TEST

START_TEST(lines_come_one_by_one_until_enough) {
  request q = {.method = "GET", .watching = true, .stop_at = 2};
  answer = "HTTP/1.1 200 OK\r\n\r\n{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n";
  serve(&q); /* the server leaves the connection open */
  ck_assert_int_eq(q.err, MSOCK_OK);
  ck_assert_int_eq(q.status, 200);
  ck_assert_uint_eq(q.n_lines, 2);
  ck_assert_str_eq(q.lines[0], "{\"n\":1}");
  ck_assert_str_eq(q.lines[1], "{\"n\":2}");
}
END_TEST

START_TEST(nobody_listening_is_told_apart) {
  msock_unix_response r;
  ck_assert_int_eq(msock_unix_request("/tmp/tsnode-no-such.sock", "GET", "/", NULL, MSOCK_SEC, &r),
                   MSOCK_ERR_IO);
  ck_assert_int_eq(errno, ENOENT);
}
END_TEST

START_TEST(the_path_is_taken_once_and_a_stale_one_replaced) {
  struct stat st;
  msock_unix_server *second = NULL;
  ck_assert_int_eq(stat(path, &st), 0);
  ck_assert_uint_eq(st.st_mode & 0777, 0600);
  ck_assert_int_eq(msock_unix_server_new(eg, path, 0600, on_accepted, NULL, &second),
                   MSOCK_ERR_AGAIN);
  msock_unix_server_free(server);
  server = NULL;
  ck_assert_int_ne(stat(path, &st), 0); /* gone with the server */

  int stale = -1; /* what a killed daemon leaves: a socket file nobody listens on */
  ck_assert_int_eq(msock_egress_unix_listen(eg, path, 0600, &stale), MSOCK_OK);
  close(stale);
  ck_assert_int_eq(msock_unix_server_new(eg, path, 0660, on_accepted, NULL, &server), MSOCK_OK);
  ck_assert_int_eq(stat(path, &st), 0);
  ck_assert_uint_eq(st.st_mode & 0777, 0660);

  char plain[] = "/tmp/tsnode-plain-XXXXXX"; /* not a socket: never removed */
  close(mkstemp(plain));
  ck_assert_int_eq(msock_unix_server_new(eg, plain, 0600, on_accepted, NULL, &second),
                   MSOCK_ERR_IO);
  ck_assert_int_eq(unlink(plain), 0);
}
END_TEST

int main(void) {
  TCase *tc = testing_case();
  tcase_add_checked_fixture(tc, setup, teardown);
  tcase_add_test(tc, a_request_its_answer_and_its_credentials);
  tcase_add_loop_test(tc, answers_of_every_framing, 0, (int)(sizeof answers / sizeof *answers));
  tcase_add_test(tc, a_silent_daemon_times_out);
  tcase_add_test(tc, lines_come_one_by_one_until_enough);
  tcase_add_test(tc, nobody_listening_is_told_apart);
  tcase_add_test(tc, the_path_is_taken_once_and_a_stale_one_replaced);
  return testing_main("io_unix", tc);
}
