/* SPDX-License-Identifier: BSD-3-Clause */
/* run_report.c - what a run was and took: sums, text. */
#include <inttypes.h>
#include <string.h>

#include "run.h"

/* Of a built-in payload or of a program. */
static uint32_t worker_status(const struct run_report *r, uint32_t i)
{
	return r->engine->kvm ? r->engine->machine.vcpus[i].status : r->params[i].status;
}

static int status_of(const struct run_report *r)
{
	switch (r->result->outcome) {
	case RUN_OUT_CRASHED:
		return EXIT_CRASHED;
	case RUN_OUT_TIMEOUT:
		return EXIT_TIMEOUT;
	case RUN_OUT_INTERRUPTED:
		return EXIT_SIGNAL + r->result->signal;
	case RUN_OUT_SAVED:
		return EXIT_OK;
	case RUN_OUT_MOVED:
		return r->result->lost ? EXIT_FAILED : EXIT_OK;
	case RUN_OUT_DONE:
		break;
	}
	for (uint32_t i = 0; i < r->opts->vcpus; i++) {
		uint32_t status = worker_status(r, i);

		if (status)
			return r->opts->payload != RUN_PROGRAM && status == RUN_IMPOSSIBLE
				       ? EXIT_FAILED
				       : EXIT_WRONG;
	}
	return EXIT_OK;
}

void run_report_sum(struct run_report *r)
{
	uint64_t measured = 0;
	uint64_t ticks = 0;

	for (uint32_t i = 0; i < r->opts->vcpus; i++) {
		const struct run_params *p = &r->params[i];
		double seconds = (double)p->ticks / r->engine->ticks_per_second;

		r->ops += p->ops;
		r->bytes += p->bytes;
		r->errors += p->errors;
		ticks += p->ticks;
		if (p->ticks) {
			measured += p->ops;
			r->ops_per_second += (double)p->ops / seconds;
			r->bytes_per_second += (double)p->bytes / seconds;
		}
		if (seconds > r->measured_seconds)
			r->measured_seconds = seconds;
	}
	if (measured)
		r->ns_per_op = (double)ticks / (double)measured / r->engine->ticks_per_second * 1e9;
	r->status = status_of(r);
}

/* "1.5 M", "200 k": with a unit behind it. */
static const char *rate(double n, char buf[TOOL_UNIT_CAP])
{
	static const char *const units[] = {"", "k", "M", "G", "T"};
	size_t unit = 0;

	while (n >= 1000 && unit < 4) {
		n /= 1000;
		unit++;
	}
	snprintf(buf, TOOL_UNIT_CAP, n < 10 ? "%.2f %s" : "%.0f %s", n, units[unit]);
	return buf;
}

static void print_head(const struct run_report *r)
{
	const char *worker = r->engine->kvm ? "vCPU" : "thread";
	char size[TOOL_UNIT_CAP];
	char page[TOOL_UNIT_CAP];
	char guest[TOOL_UNIT_CAP];

	fprintf(stderr, "guestmem: %s, %u %s%s%s; %s, pages %s asked, up to %s possible",
		run_payload_name(r->opts), r->opts->vcpus, worker, r->opts->vcpus > 1 ? "s" : "",
		r->engine->kvm ? " of KVM" : ", no guest", tool_bytes(r->memory->len, size),
		r->opts->memory.pages.text ? r->opts->memory.pages.text : "default",
		tool_page_name(tool_log2(r->memory->info.page_size), page));
	if (r->engine->kvm)
		fprintf(stderr, ", guest pages %s", tool_page_name(r->engine->guest_log2, guest));
	fputc('\n', stderr);
}

static void print_end(const struct run_report *r)
{
	static const char *const words[] = {
		[RUN_OUT_DONE] = "done",
		[RUN_OUT_CRASHED] = "crashed",
		[RUN_OUT_TIMEOUT] = "ended by --timeout",
		[RUN_OUT_INTERRUPTED] = "interrupted",
		[RUN_OUT_SAVED] = "saved",
		[RUN_OUT_MOVED] = "moved",
	};

	fprintf(stderr, "guestmem: %s after %.6f s", words[r->result->outcome], r->result->seconds);
	if (r->result->asked)
		fputs(", told to stop by --time", stderr);
	if (r->result->restarts)
		fprintf(stderr, ", went on in another virtual machine (%.3f s)",
			r->result->restart_seconds);
	fprintf(stderr, "; memory made in %.3f s", r->memory->seconds);
	if (r->opts->background)
		fprintf(stderr, ", filled meanwhile in %.3f s", r->behind->seconds);
	fputc('\n', stderr);
}

static bool right(const struct run_report *r)
{
	for (uint32_t i = 0; i < r->opts->vcpus; i++) {
		if (r->params[i].expected && r->params[i].checksum != r->params[i].expected)
			return false;
	}
	return r->errors == 0;
}

static bool verified(const struct run_report *r)
{
	for (uint32_t i = 0; i < r->opts->vcpus; i++) {
		if (r->params[i].expected == 0 || r->params[i].state != RUN_DONE)
			return false;
	}
	return true;
}

static void print_figures(const struct run_report *r)
{
	char a[TOOL_UNIT_CAP];
	char b[TOOL_UNIT_CAP];
	char c[TOOL_UNIT_CAP];

	if (!r->ops)
		return;
	if (r->measured_seconds <= 0) {
		fprintf(stderr,
			"guestmem: %" PRIu64 " operations, %s, in a time that is not known\n",
			r->ops, tool_bytes(r->bytes, b));
		return;
	}
	fprintf(stderr, "guestmem: %" PRIu64 " operations in %.6f s: %s/s, %.2f ns each, %s, %s/s",
		r->ops, r->measured_seconds, rate(r->ops_per_second, a), r->ns_per_op,
		tool_bytes(r->bytes, b), tool_bytes((uint64_t)r->bytes_per_second, c));
	fputs(verified(r) ? right(r) ? "; contents right\n" : "; contents WRONG\n" : "\n", stderr);
}

static const struct kvm_stat *stat_named(const struct run_seen *seen, const char *name)
{
	for (size_t i = 0; i < seen->nr_stats; i++) {
		if (strcmp(seen->stats[i].name, name) == 0)
			return &seen->stats[i];
	}
	return NULL;
}

static void print_faults(const struct run_report *r)
{
	static const char *const names[] = {"pf_taken", "pf_fixed", "pf_guest", "exits"};
	const struct run_seen *seen = r->seen;
	const char *between = "; KVM: ";

	fprintf(stderr, "guestmem: faults %" PRIu64 " minor, %" PRIu64 " major",
		seen->after.minor - seen->before.minor, seen->after.major - seen->before.major);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct kvm_stat *stat = stat_named(seen, names[i]);

		if (!stat)
			continue;
		fprintf(stderr, "%s%" PRIu64 " %s", between, stat->value, names[i]);
		between = ", ";
	}
	fputc('\n', stderr);
}

static void print_memory(const struct run_report *r)
{
	const struct gm_usage *u = &r->seen->usage;
	const char *between = " (";
	char a[TOOL_UNIT_CAP];
	char b[TOOL_UNIT_CAP];

	if (!r->seen->usage_known) {
		fputs("guestmem: what is present could not be seen\n", stderr);
		return;
	}
	fprintf(stderr, "guestmem: present %s", tool_bytes(u->present, a));
	for (uint32_t log2 = 0; log2 <= GM_USAGE_LOG2_MAX; log2++) {
		if (!u->by_log2[log2])
			continue;
		fprintf(stderr, "%s%s in %s pages", between, tool_bytes(u->by_log2[log2], a),
			tool_page_name(log2, b));
		between = ", ";
	}
	fprintf(stderr, "%s; page tables: process %s", u->present ? ")" : "",
		tool_bytes(r->seen->after.page_tables, a));
	if (r->engine->kvm)
		fprintf(stderr, ", guest's own %s", tool_bytes(r->engine->machine.tables_used, a));
	if (r->seen->after.sec_page_tables != UINT64_MAX)
		fprintf(stderr, ", all of KVM's %s", tool_bytes(r->seen->after.sec_page_tables, a));
	fputc('\n', stderr);
}

static void print_control(const struct run_seen *seen)
{
	const struct gm_control_info *c = &seen->control;
	char bytes[TOOL_UNIT_CAP];

	if (!seen->control_known)
		return;
	fprintf(stderr,
		"guestmem: requests about memory %" PRIu64 ", refused %" PRIu64
		" (for their rate %" PRIu64 "), failed %" PRIu64
		", done %s; protected memory met %" PRIu64 " times\n",
		c->requests, c->refused, c->throttled, c->failed, tool_bytes(c->bytes, bytes),
		seen->lifted);
}

/* What a worker has to say that is not well. */
static void print_worker(const struct run_report *r, uint32_t i)
{
	const struct run_params *p = &r->params[i];
	uint32_t status = worker_status(r, i);
	const char *why = run_engine_why(r->engine, i);

	if (why)
		tool_error("run: %s %u: %s", r->engine->kvm ? "vCPU" : "thread", i, why);
	else if (r->opts->payload == RUN_PROGRAM && status)
		tool_error("run: vCPU %u: the program ended with status %u", i, status);
	else if (r->opts->payload != RUN_PROGRAM && p->status == RUN_IMPOSSIBLE)
		tool_error("run: %s: its memory is too small for these parameters",
			run_payload_name(r->opts));
	else if (r->opts->payload != RUN_PROGRAM && p->status == RUN_WRONG)
		tool_error("run: %s: %" PRIu64 " words are wrong, the first at 0x%" PRIx64
			   ": 0x%" PRIx64 " instead of 0x%" PRIx64,
			run_payload_name(r->opts), p->errors, p->error_addr, p->error_found,
			p->error_wanted);
}

void run_report_text(const struct run_report *r)
{
	if (!r->opts->quiet) {
		print_head(r);
		print_end(r);
		print_figures(r);
		print_faults(r);
		print_memory(r);
		print_control(r->seen);
		if (r->memory->info.why[0])
			tool_note("pages: %s", r->memory->info.why);
	}
	for (uint32_t i = 0; i < r->opts->vcpus; i++)
		print_worker(r, i);
	if (r->result->outcome == RUN_OUT_TIMEOUT)
		tool_error("run: --timeout: it was not done after %g s", r->opts->timeout);
	else if (r->result->outcome == RUN_OUT_INTERRUPTED)
		tool_error("run: interrupted by SIG%s", sigabbrev_np(r->result->signal));
}
