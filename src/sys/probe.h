/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * probe.h - trace points (USDT): a nop and a note in the file, where the build found sys/sdt.h; else nothing.
 *
 * Their names and arguments are in guestmem-tracepoints(7).
 */
#ifndef GM_SYS_PROBE_H
#define GM_SYS_PROBE_H

#if GM_USDT
#include <sys/sdt.h>
#define GM_PROBE2(name, a, b) DTRACE_PROBE2(guestmem, name, a, b)
#define GM_PROBE3(name, a, b, c) DTRACE_PROBE3(guestmem, name, a, b, c)
#define GM_PROBE4(name, a, b, c, d) DTRACE_PROBE4(guestmem, name, a, b, c, d)
#define GM_PROBE5(name, a, b, c, d, e) DTRACE_PROBE5(guestmem, name, a, b, c, d, e)
#else
#define GM_PROBE2(name, a, b) ((void)(a), (void)(b))
#define GM_PROBE3(name, a, b, c) ((void)(a), (void)(b), (void)(c))
#define GM_PROBE4(name, a, b, c, d) ((void)(a), (void)(b), (void)(c), (void)(d))
#define GM_PROBE5(name, a, b, c, d, e) ((void)(a), (void)(b), (void)(c), (void)(d), (void)(e))
#endif

#endif
