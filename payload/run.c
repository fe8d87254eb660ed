/* SPDX-License-Identifier: BSD-3-Clause */
/* run.c - finds the payload and runs it. */
#include "payload.h"

uint32_t payload_run(struct run_params *p)
{
	static void (*const payloads[RUN_NR_PAYLOADS])(struct run_params * p) = {
		[RUN_TOUCH] = payload_touch,
		[RUN_CHASE] = payload_chase,
		[RUN_STREAM] = payload_stream,
		[RUN_STORE] = payload_store,
		[RUN_STAMP] = payload_stamp,
		[RUN_REPLAY] = payload_replay,
		[RUN_CONTROL] = payload_control,
	};

	if (p->state != RUN_MOVES)
		payload_state(p, RUN_PREPARES);
	if (p->magic != RUN_MAGIC || p->version != RUN_VERSION || p->payload >= RUN_NR_PAYLOADS ||
		!payloads[p->payload])
		p->status = RUN_IMPOSSIBLE;
	else
		payloads[p->payload](p);
	if (p->state != RUN_MOVES)
		payload_state(p, RUN_DONE);
	return p->status;
}
