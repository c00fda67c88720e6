#include "derpd/quota_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "derpd/identity.h"
#include "derpd/text.h"
#include "io/file.h"

#define FIRST_LINE "derpd-quota 1\n"
#define LINE_MAX_BYTES 256u

void msock_derpd_date(uint64_t wall_us, uint32_t *day, uint32_t *month) {
  const time_t now = (time_t)(wall_us / 1000000);
  struct tm tm;
  gmtime_r(&now, &tm);
  *day = (uint32_t)(now / 86400);
  *month = (uint32_t)((tm.tm_year - 70) * 12 + tm.tm_mon);
}

bool msock_derpd_quota_parse(const char *line, msock_derp_usage *out) {
  char key[MSOCK_KEY_TEXT_MAX];
  msock_derp_usage u;
  int used = 0;
  if (sscanf(line, "%79s %" SCNu32 " %" SCNu32 " %" SCNu64 " %" SCNu64 "%n", key, &u.day, &u.month,
             &u.day_bytes, &u.month_bytes, &used) != 5 ||
      line[used] != '\0' || msock_node_key_parse(key, &u.key) != MSOCK_OK) {
    return false;
  }
  *out = u;
  return true;
}

static size_t load_lines(const char *text, msock_derp_server *core) {
  size_t bad = 0;
  while (*text) {
    char line[LINE_MAX_BYTES];
    msock_derp_usage u;
    const size_t len = strcspn(text, "\n");
    snprintf(line, sizeof line, "%.*s", (int)(len < sizeof line ? len : 0), text);
    if (!msock_derpd_quota_parse(line, &u) || msock_derp_server_add_usage(core, &u) != MSOCK_OK) {
      bad++;
    }
    text += len + (text[len] == '\n');
  }
  return bad;
}

msock_err msock_derpd_quota_load(const char *statedir, msock_derp_server *core, char *why,
                                 size_t cap) {
  char path[MSOCK_DERPD_PATH_MAX], reason[MSOCK_FILE_WHY_MAX];
  char *text = NULL;
  size_t len = 0;
  snprintf(path, sizeof path, "%s/" MSOCK_DERPD_QUOTA_NAME, statedir);
  const msock_err e = msock_file_read(path, MSOCK_DERPD_QUOTA_FILE_MAX, true, &text, &len, reason);
  if (e == MSOCK_ERR_UNKNOWN) {
    return MSOCK_OK;
  }
  if (e != MSOCK_OK) {
    snprintf(why, cap, "%s", reason);
    return MSOCK_ERR_IO;
  }
  const size_t head = strlen(FIRST_LINE);
  const bool ours = strncmp(text, FIRST_LINE, head) == 0;
  const size_t bad = ours ? load_lines(text + head, core) : 0;
  free(text);
  if (!ours) {
    snprintf(why, cap, "%.200s: not a quota file of this version; it is replaced at the next write",
             path);
  } else if (bad > 0) {
    snprintf(why, cap, "%.200s: %zu lines are damaged and left out", path, bad);
  }
  if (!ours || bad > 0) {
    return MSOCK_ERR_INVALID;
  }
  return MSOCK_OK;
}

msock_err msock_derpd_quota_save(const char *statedir, const msock_derp_server *core, char *why,
                                 size_t cap) {
  char key[MSOCK_KEY_TEXT_MAX], reason[MSOCK_FILE_WHY_MAX];
  msock_derpd_text t = {0};
  msock_derp_usage u;
  uint32_t cursor = 0;
  msock_derpd_text_add(&t, FIRST_LINE);
  while (msock_derp_server_next_usage(core, &cursor, &u)) {
    msock_derpd_text_add(&t, "%s %" PRIu32 " %" PRIu32 " %" PRIu64 " %" PRIu64 "\n",
                         msock_node_key_text(&u.key, key), u.day, u.month, u.day_bytes,
                         u.month_bytes);
  }
  msock_err e = t.failed ? MSOCK_ERR_NOMEM : MSOCK_OK;
  snprintf(reason, sizeof reason, "out of memory");
  if (e == MSOCK_OK) {
    e = msock_file_write(statedir, MSOCK_DERPD_QUOTA_NAME, t.p, t.len, reason);
  }
  if (e != MSOCK_OK) {
    snprintf(why, cap, "%s", reason);
  }
  msock_derpd_text_clear(&t);
  return e;
}
