/* Has callgrind count from begin() to end() only; elsewhere the program runs without instrumentation, several times as fast. */
#include <valgrind/callgrind.h>

void begin(void) { CALLGRIND_START_INSTRUMENTATION; }
void end(void) { CALLGRIND_STOP_INSTRUMENTATION; }
