/* SPDX-License-Identifier: BSD-3-Clause */
/* run_engine.c - a machine or threads: what runs the payload, the same from outside. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "../payload/payload.h"
#include "run.h"
#include "run_blob.h"

#define PAGE UINT64_C(4096)

/* ---- which one ---- */

static void choose_guest_pages(struct run_engine *e)
{
	e->guest_log2 = e->opts->guest_log2;
	if (e->kvm && e->guest_log2 == 30 && !machine_takes_1g()) {
		e->guest_log2 = 21;
		tool_note("this KVM refuses pages of 1G in a guest's page tables, so the guest has "
			  "pages of 2M");
	}
}

bool run_engine_choose(struct run_engine *e, const struct run_opts *o)
{
	*e = (struct run_engine){.opts = o,
		.machine = {.kvm_fd = -1, .vm_fd = -1, .event = -1},
		.threads = {.event = -1}};
	if (o->engine != RUN_THREAD)
		e->kvm = machine_available(e->reason, sizeof(e->reason));
	if (e->kvm || o->engine == RUN_THREAD) {
		choose_guest_pages(e);
		return true;
	}
	if (o->engine == RUN_KVM || o->payload == RUN_PROGRAM || o->restart > 0 || o->control ||
		o->snapshot || o->restored) {
		tool_error("run: there is no KVM here: %s%s", e->reason,
			o->payload == RUN_PROGRAM ? "; a program of your own needs it" : "");
		return false;
	}
	tool_note("there is no KVM here (%s), so the payload runs in a thread of this process",
		e->reason);
	return true;
}

/* ---- the counter's frequency, where KVM does not say it ---- */

static double count_ticks(void)
{
	double begun = tool_now();
	uint64_t ticks = payload_ticks();
	double now;

	do {
		now = tool_now();
	} while (now - begun < 0.02);
	return (double)(payload_ticks() - ticks) / (now - begun);
}

/* ---- parameters ---- */

/* Equal shares in whole pages; the last one has what is left. */
static void share(const struct run_engine *e, uint32_t i, uint64_t base, struct run_params *p)
{
	uint64_t each = e->memory->len / PAGE / e->opts->vcpus * PAGE;

	p->all = base;
	p->all_len = e->memory->len / PAGE * PAGE;
	p->mem = base + i * each;
	p->mem_len = i + 1 == e->opts->vcpus ? p->all_len - i * each : each;
}

static void fill_params(const struct run_engine *e, uint32_t i, struct run_params *p)
{
	const struct run_opts *o = e->opts;

	*p = (struct run_params){
		.magic = RUN_MAGIC,
		.version = RUN_VERSION,
		.size = sizeof(*p),
		.vcpu = i,
		.nr_vcpus = o->vcpus,
		.payload = o->payload,
		.flags = e->kvm ? RUN_IN_GUEST : 0,
		.data = e->kvm ? e->memory->data_gpa : e->memory->data_hva,
		.data_len = e->memory->data_len,
		.seed = o->seed,
		.mailbox = e->kvm ? e->machine.mailbox_gpa : 0,
		.argc = e->kvm ? o->nr_words : 0,
		.argv = e->kvm ? MACHINE_WORDS : 0,
		.control = e->kvm ? machine_control_gpa(&e->machine) : 0,
	};
	share(e, i, e->kvm ? e->memory->gpa : e->memory->hva, p);
	memcpy(p->arg, o->args, sizeof(p->arg));
	if (o->payload == RUN_STAMP)
		p->arg[RUN_ARG_PAUSE] = (uint64_t)llround(o->pause * e->ticks_per_second);
	else if (o->payload == RUN_REPLAY)
		p->arg[RUN_ARG_PAUSE] = (uint64_t)llround(o->pause * e->ticks_per_second / 1000);
}

/* ---- life ---- */

static bool init_machine(struct run_engine *e)
{
	const struct run_opts *o = e->opts;
	struct machine_opts opts = {.nr_vcpus = o->vcpus,
		.guest_log2 = e->guest_log2,
		.control = o->control,
		.control_rate = o->control_rate,
		.restored = o->restored};
	int fd = -1;
	bool well;

	opts.program.path = o->words[0];
	opts.program.words = o->words;
	opts.program.nr_words = o->nr_words;
	if (o->payload == RUN_PROGRAM && !o->restored) {
		fd = open(o->words[0], O_RDONLY | O_CLOEXEC);
		if (fd < 0) {
			tool_error("%s: %s", o->words[0], strerror(errno));
			return false;
		}
	} else {
		opts.program.bytes = run_blob(&opts.program.len);
	}
	opts.program.fd = fd;
	well = machine_init(&e->machine, e->memory, &opts);
	if (fd >= 0)
		close(fd);
	e->machine.opts.program = (struct machine_program){.fd = -1};
	if (well && o->restored)
		e->machine.tables_used = o->tables_used;
	return well;
}

bool run_engine_init(struct run_engine *e, struct run_memory *memory)
{
	struct run_params params;

	e->memory = memory;
	if (e->opts->moved && e->kvm != memory->has_tables) {
		tool_error("run: its memory is not that of the engine it ran by");
		return false;
	}
	if (e->kvm ? !init_machine(e) : !run_threads_init(&e->threads, e->opts->vcpus))
		return false;
	if (e->kvm)
		e->ticks_per_second = machine_ticks_per_second(&e->machine);
	if (e->ticks_per_second <= 0)
		e->ticks_per_second = count_ticks();
	for (uint32_t i = 0; i < e->opts->vcpus; i++) {
		fill_params(e, i, &params);
		if (!e->kvm)
			*run_threads_params(&e->threads, i) = params;
		else if (!e->opts->moved && !run_memory_write(memory, machine_params_gpa(i),
						    &params, sizeof(params), "parameters"))
			return false;
	}
	return true;
}

void run_engine_fini(struct run_engine *e)
{
	machine_stop(&e->machine);
	machine_fini(&e->machine);
	run_threads_fini(&e->threads);
}

bool run_engine_start(struct run_engine *e)
{
	return e->kvm ? machine_start(&e->machine) : run_threads_start(&e->threads);
}

int run_engine_event(const struct run_engine *e)
{
	return e->kvm ? e->machine.event : e->threads.event;
}

bool run_engine_all_ended(const struct run_engine *e)
{
	return e->kvm ? machine_all_stopped(&e->machine) : run_threads_all_ended(&e->threads);
}

const char *run_engine_why(const struct run_engine *e, uint32_t i)
{
	const struct machine_vcpu *vcpu;

	if (!e->kvm)
		return run_threads_why(&e->threads, i);
	vcpu = &e->machine.vcpus[i];
	return __atomic_load_n(&vcpu->end, __ATOMIC_ACQUIRE) == MACHINE_CRASHED ? vcpu->why : NULL;
}

bool run_engine_crashed(const struct run_engine *e)
{
	for (uint32_t i = 0; i < e->opts->vcpus; i++) {
		if (run_engine_why(e, i))
			return true;
	}
	return false;
}

void run_engine_ask(struct run_engine *e)
{
	const struct gm_view *view;

	if (!e->kvm) {
		for (uint32_t i = 0; i < e->threads.nr; i++)
			__atomic_store_n(
				&run_threads_params(&e->threads, i)->stop, 1, __ATOMIC_RELAXED);
		return;
	}
	__atomic_store_n(&e->machine.devices.stop, 1, __ATOMIC_RELAXED);
	view = gm_reader_enter(e->memory->reader);
	for (uint32_t i = 0; i < e->opts->vcpus; i++)
		gm_write_le64(view, machine_params_gpa(i) + offsetof(struct run_params, stop), 1);
	gm_reader_leave(e->memory->reader);
}

void run_engine_stop(struct run_engine *e)
{
	machine_stop(&e->machine);
	while (!e->kvm && !run_threads_all_ended(&e->threads))
		usleep(1000);
}

void run_engine_pause(struct run_engine *e)
{
	if (e->kvm)
		machine_stop(&e->machine);
	else
		run_threads_pause(&e->threads);
}

bool run_engine_go_on(struct run_engine *e)
{
	return e->kvm ? machine_go_on(&e->machine) : run_threads_start(&e->threads);
}

const char *run_engine_stays(const struct run_engine *e)
{
	if (e->opts->control)
		return "what the guest has asked about its memory would be lost (--control)";
	if (!e->kvm && e->opts->payload != RUN_STORE && e->opts->payload != RUN_STAMP)
		return "of payloads in threads only store and stamp can be moved";
	return NULL;
}

bool run_engine_params(struct run_engine *e, uint32_t i, struct run_params *ret)
{
	if (e->kvm)
		return run_memory_read(
			e->memory, machine_params_gpa(i), ret, sizeof(*ret), "parameters");
	*ret = *run_threads_params(&e->threads, i);
	return true;
}
