#include "base/err.h"

const char *msock_err_text(msock_err e) {
  switch (e) {
  case MSOCK_OK:
    return "ok";
  case MSOCK_ERR_AGAIN:
    return "try again";
  case MSOCK_ERR_NOBUF:
    return "buffer too small";
  case MSOCK_ERR_SHORT:
    return "input too short";
  case MSOCK_ERR_UNKNOWN:
    return "unknown kind";
  case MSOCK_ERR_AUTH:
    return "authentication failed";
  case MSOCK_ERR_NOMEM:
    return "out of memory or table full";
  case MSOCK_ERR_CLOSED:
    return "closed";
  case MSOCK_ERR_INVALID:
    return "malformed input";
  case MSOCK_ERR_DENIED:
    return "denied by profile";
  case MSOCK_ERR_IO:
    return "system error";
  case MSOCK_ERR_TIMEOUT:
    return "timed out";
  }
  return "unknown error";
}
