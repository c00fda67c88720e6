/* control/client_names.c: stable names and advice for people. */
#include "control/control.h"

static const struct {
  msock_control_error error;
  const char *name;
  const char *advice;
} errors[] = {
    {MSOCK_CONTROL_E_NONE, "none", ""},
    {MSOCK_CONTROL_E_KEY_UNREACHABLE, "key-unreachable",
     "check the login server's URL, its certificate and the network"},
    {MSOCK_CONTROL_E_KEY_STATUS, "key-status",
     "check that the login server's URL points at the control server itself"},
    {MSOCK_CONTROL_E_KEY_EMPTY, "key-empty",
     "the server finds this client too old: update one of the two"},
    {MSOCK_CONTROL_E_KEY_NOT_JSON, "key-not-json",
     "something else than a control server answers: check the login server's URL"},
    {MSOCK_CONTROL_E_KEY_TOO_LONG, "key-too-long",
     "something else than a control server answers: check the login server's URL"},
    {MSOCK_CONTROL_E_KEY_LEGACY, "key-legacy", "the control server is too old: update it"},
    {MSOCK_CONTROL_E_KEY_CHANGED, "key-changed",
     "somebody may be in between; if the server's operator did change it, log out and log in again "
     "(a server_key in the configuration is changed there)"},
    {MSOCK_CONTROL_E_CONNECT, "connect", ""},
    {MSOCK_CONTROL_E_UPGRADE, "upgrade",
     "let the reverse proxy pass Upgrade and Connection unmodified on POST /ts2021"},
    {MSOCK_CONTROL_E_REJECTED, "rejected",
     "the server's key changed or it finds this client's version too old"},
    {MSOCK_CONTROL_E_HANDSHAKE, "handshake", ""},
    {MSOCK_CONTROL_E_PROTOCOL, "protocol", ""},
    {MSOCK_CONTROL_E_TIMEOUT, "timeout", ""},
    {MSOCK_CONTROL_E_AUTHKEY_USED, "authkey-used",
     "the one-shot auth key is spent: make a new one and log in with it"},
    {MSOCK_CONTROL_E_AUTHKEY_EXPIRED, "authkey-expired",
     "the auth key has expired: make a new one and log in with it"},
    {MSOCK_CONTROL_E_AUTHKEY_REVOKED, "authkey-revoked",
     "the auth key was revoked: make a new one and log in with it"},
    {MSOCK_CONTROL_E_AUTHKEY_INVALID, "authkey-invalid",
     "the server does not know this auth key: check it and log in again"},
    {MSOCK_CONTROL_E_AUTHKEY_MALFORMED, "authkey-malformed",
     "the auth key is not complete: copy it again and log in"},
    {MSOCK_CONTROL_E_OTHER_MACHINE, "other-machine",
     "the node key belongs to another machine: log in again to make a new one"},
    {MSOCK_CONTROL_E_REGISTRATION_ID, "registration-id", ""},
    {MSOCK_CONTROL_E_EXTEND_EXPIRY, "extend-expiry", "log in again to renew the node key"},
    {MSOCK_CONTROL_E_NODE_KEY_EXPIRED, "node-key-expired", "log in again"},
    {MSOCK_CONTROL_E_TAILNET_LOCK, "tailnet-lock",
     "tailnet lock is not supported: switch it off for this node"},
    {MSOCK_CONTROL_E_VERSION, "version",
     "the server does not take this client's version: update one of the two"},
    {MSOCK_CONTROL_E_BUSY, "busy", ""},
    {MSOCK_CONTROL_E_REFUSED, "refused", "see the server's text; its log may say more"},
    {MSOCK_CONTROL_E_REGISTER_STATUS, "register-status", ""},
    {MSOCK_CONTROL_E_REGISTER_BODY, "register-body", ""},
    {MSOCK_CONTROL_E_MAP_STATUS, "map-status", ""},
    {MSOCK_CONTROL_E_MAP_NOT_FOUND, "map-not-found", ""},
    {MSOCK_CONTROL_E_MAP_BODY, "map-body", ""},
    {MSOCK_CONTROL_E_MAP_ENDED, "map-ended", ""},
};

const char *msock_control_error_name(msock_control_error e) {
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
    if (errors[i].error == e) {
      return errors[i].name;
    }
  }
  return "unknown";
}

const char *msock_control_error_advice(msock_control_error e) {
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
    if (errors[i].error == e) {
      return errors[i].advice;
    }
  }
  return "";
}

const char *msock_control_state_name(msock_control_state s) {
  switch (s) {
  case MSOCK_CONTROL_STOPPED:
    return "Stopped";
  case MSOCK_CONTROL_STARTING:
    return "Starting";
  case MSOCK_CONTROL_NEEDS_LOGIN:
    return "NeedsLogin";
  case MSOCK_CONTROL_NEEDS_APPROVAL:
    return "NeedsMachineAuth";
  case MSOCK_CONTROL_RUNNING:
    return "Running";
  case MSOCK_CONTROL_EXPIRED:
    return "NeedsLogin"; /* what tailscaled calls it */
  }
  return "NoState";
}
