/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replay.c - touches pages in the order of a trace. Of several vCPUs each takes every n-th record;
 * all work on the memory of all.
 */
#include "payload.h"
#include "trace.h"

static uint64_t stamp_of(const struct run_params *p, uint64_t page)
{
	return payload_mix(p->seed ^ page) | 1;
}

/* False if the record does not lie in memory. */
static bool touch(struct run_params *p, const struct trace_record *r, uint32_t page_log2)
{
	uint64_t pages = p->all_len >> page_log2;

	if (r->page >= pages || r->nr > pages - r->page)
		return false;
	for (uint64_t i = 0; i < r->nr; i++) {
		uint64_t addr = p->all + ((r->page + i) << page_log2);

		if (r->write && p->arg[RUN_ARG_WRITE])
			payload_store8(addr, stamp_of(p, r->page + i));
		else
			p->checksum += payload_load(addr) != 0;
	}
	p->ops += r->nr;
	if (r->write)
		p->figures[1] += r->nr;
	return true;
}

/* Waits until the record's time has come. */
static void await(const struct run_params *p, uint64_t begun, uint64_t micros)
{
	uint64_t rate = p->arg[RUN_ARG_PAUSE];
	uint64_t due = micros / 1000 * rate + micros % 1000 * rate / 1000;

	while (rate && payload_ticks() - begun < due && !payload_stopped(p))
		;
}

void payload_replay(struct run_params *p)
{
	struct trace_header h;
	struct trace_reader reader;
	struct trace_record r;
	uint64_t micros = 0;
	uint64_t begun;
	int rc;

	if (trace_check((const void *)(uintptr_t)p->data, p->data_len, &h) ||
		!trace_open(&reader, (const void *)(uintptr_t)p->data, p->data_len)) {
		p->status = RUN_IMPOSSIBLE;
		return;
	}
	payload_state(p, RUN_MEASURES);
	begun = payload_ticks();
	for (uint64_t i = 0; (rc = trace_next(&reader, &r)) == 1 && !payload_stopped(p); i++) {
		micros += r.micros;
		if (i % p->nr_vcpus != p->vcpu)
			continue;
		await(p, begun, micros);
		if (!touch(p, &r, h.page_log2)) {
			p->status = RUN_IMPOSSIBLE;
			break;
		}
		p->figures[0]++;
		payload_progress(p, i + 1);
	}
	p->ticks = payload_ticks() - begun;
	p->bytes = p->ops * sizeof(uint64_t);
	if (rc < 0)
		p->status = RUN_IMPOSSIBLE;
}
