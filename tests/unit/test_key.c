#include "tests/unit/testing.h"
int main(void) {
  return 0;
}
