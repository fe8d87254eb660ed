/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_listen.c - "guestmem migrate listen": takes one guest, and runs it as "guestmem run" does.
 *
 * What comes is judged: regions by run_take.c, the state by run_state.c, restore_about.c and vcpu_state.c. Memory
 * that has not come is touched by this thread only when another one brings it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <guestmem/guard.h>

#include "migrate.h"
#include "restore.h"
#include "run_snapshot.h"
#include "run_state.h"

#define LAST_WORD 0.2 /* seconds */
#define FAREWELL 1.0  /* the same, for a source that is to read why it was refused */

struct listen {
	struct migrate_opts *o;
	struct run_opts *run;
	struct gm_host host;
	struct run_memory memory;
	struct run_engine engine;
	bool engine_made;
	struct restore_about about;
	struct gm_snapshot_label labels[RUN_STATE_PARTS_MAX];
	struct mover mover;
	struct tool_output json;
	struct tool_output events;
	int signals;
	bool starts; /* it is to run */
	int signo;   /* that has ended the waiting */
};

/* ---- what is wished ---- */

static void close_places(struct mover *m)
{
	for (size_t i = 0; i < m->nr_places && i < RUN_MEMORY_PLACES_MAX; i++) {
		if (m->places[i].fd >= 0)
			close(m->places[i].fd);
		m->places[i].fd = -1;
	}
}

static void prepare(struct listen *l)
{
	struct mover *m = &l->mover;
	char bytes[TOOL_UNIT_CAP];
	int rc = run_memory_take(&l->memory, &l->run->memory, m->places, m->nr_places, m->refusal,
		sizeof(m->refusal));

	close_places(m);
	gm_migrate_in_prepared(m->in, rc ? NULL : l->memory.space, rc, rc ? m->refusal : NULL);
	if (!rc && !l->o->quiet)
		tool_note("a guest comes, with %s of memory", tool_bytes(l->memory.len, bytes));
}

static uint64_t whole_pages(uint64_t len)
{
	return (len + 4095) / 4096 * 4096;
}

/* What the guest says of itself against the memory that came before. */
static const char *check_about(struct listen *l)
{
	struct run_memory *m = &l->memory;
	struct run_opts *o = l->run;

	if (o->memory.size != m->len || whole_pages(o->memory.data_len) != m->data_len)
		return "its memory is of another size than it says";
	if (m->len / 4096 < o->vcpus)
		return "it has more vCPUs than pages";
	if ((o->engine == RUN_KVM) != m->has_tables)
		return "its memory is not that of the engine it ran by";
	m->data_len = o->memory.data_len;
	return NULL;
}

/* A thread's block of parameters: the payload's half of it, if it can be. */
static const char *load_thread(struct listen *l, uint32_t i)
{
	struct run_params *p = run_threads_params(&l->engine.threads, i);
	struct run_params came;

	if (l->about.vcpus[i].len != sizeof(came))
		return "a thread's parameters have another length";
	memcpy(&came, l->about.vcpus[i].bytes, sizeof(came));
	if ((came.state != RUN_MOVES && came.state != RUN_DONE) || came.status > RUN_IMPOSSIBLE ||
		came.stop > RUN_STOP_MOVE)
		return "a thread's state cannot be";
	memcpy(&p->progress, &came.progress, sizeof(came) - offsetof(struct run_params, progress));
	p->stop = came.stop;
	return NULL;
}

static const char *load_workers(struct listen *l)
{
	struct machine *m = &l->engine.machine;
	const char *why = NULL;

	for (uint32_t i = 0; i < l->run->vcpus && !why; i++) {
		if (!l->engine.kvm)
			why = load_thread(l, i);
		else if (!machine_restore(m, i, &l->about.vcpus[i]))
			why = "the state of a vCPU cannot be put into KVM";
	}
	m->devices.doorbells = l->about.doorbells;
	m->devices.doorbell = l->about.doorbell;
	m->devices.stop = l->about.stop;
	return why;
}

/* Numbers that a payload in a thread would use as they are. */
static bool args_can_be(const struct run_opts *o)
{
	return o->engine == RUN_KVM ||
	       ((o->payload == RUN_STORE || o->payload == RUN_STAMP) &&
		       o->args[RUN_ARG_WRITE] <= 100 && o->args[RUN_ARG_SKEW] <= 200);
}

static const char *load(struct listen *l)
{
	const struct mover *m = &l->mover;
	struct run_opts *o = l->run;
	const char *why;
	size_t nr;

	why = run_state_decode(m->data, m->data_len, l->labels, &nr);
	if (why)
		return why;
	if (!restore_about(l->labels, nr, l->o->address, &l->about, o) || !args_can_be(o))
		return "what it says of itself cannot be";
	why = check_about(l);
	if (why)
		return why;
	o->restored = true;
	o->moved = true;
	if (!run_engine_choose(&l->engine, o))
		return "there is no KVM here";
	l->engine_made = true;
	if (!run_engine_init(&l->engine, &l->memory))
		return "its virtual machine cannot be made";
	return load_workers(l);
}

static void serve(struct listen *l)
{
	struct mover *m = &l->mover;
	uint32_t wishes = mover_turn(m);

	if (wishes & MOVER_PREPARE)
		prepare(l);
	if (wishes & MOVER_LOAD) {
		const char *why = load(l);

		if (why)
			tool_error("migrate: the guest is refused: %s", why);
		gm_migrate_in_loaded(m->in, why ? -EINVAL : 0, why);
	}
	if (wishes & MOVER_START)
		l->starts = true;
	mover_turned(m);
}

/* ---- waiting ---- */

/* 0, or the signal that came. */
static int wait_for(struct listen *l)
{
	struct signalfd_siginfo info;
	struct pollfd fds[] = {{.fd = mover_ask(&l->mover), .events = POLLIN},
		{.fd = l->signals, .events = POLLIN}};

	if (poll(fds, 2, -1) <= 0)
		return 0;
	if (fds[0].revents)
		serve(l);
	if (fds[1].revents && read(l->signals, &info, sizeof(info)) == sizeof(info))
		return (int)info.ssi_signo;
	return 0;
}

/* True: the guest is to run. */
static bool take_guest(struct listen *l)
{
	while (!l->starts && !mover_ended(mover_state(&l->mover))) {
		int signo = wait_for(l);

		if (!signo)
			continue;
		if (l->signo || mover_state(&l->mover) == GM_MIGRATE_IS_IDLE) {
			l->signo = signo;
			return false;
		}
		l->signo = signo;
		gm_migrate_in_give_up(l->mover.in, -ECANCELED);
	}
	return l->starts;
}

/* What was said last is to be read before the sockets are gone. */
static void let_read(struct listen *l, double seconds)
{
	struct pollfd fd = {.fd = l->signals, .events = POLLIN};
	double left;

	pthread_mutex_lock(&l->mover.lock);
	left = l->mover.ended + seconds - tool_now();
	pthread_mutex_unlock(&l->mover.lock);
	if (left > 0)
		poll(&fd, 1, (int)(left * 1000) + 1);
}

/* A source that does not know how it ended may come and ask: as long as the library says, or until a signal comes. */
static void let_ask(struct listen *l)
{
	bool said = l->o->quiet;

	/* It may be about to take its leave. */
	if (mover_answers(&l->mover))
		let_read(l, LAST_WORD);
	while (mover_answers(&l->mover)) {
		int signo;

		if (!said)
			tool_note("the source may not know how it ended: it is answered for a "
				  "while");
		said = true;
		signo = wait_for(l);
		if (!signo)
			continue;
		l->signo = l->signo ? l->signo : signo;
		return;
	}
}

/* The guest has ended, and the source may not know that all is there. */
static bool take_rest(struct listen *l)
{
	bool said = l->o->quiet;
	int signo;

	pthread_mutex_lock(&l->mover.lock);
	l->mover.over = true;
	pthread_mutex_unlock(&l->mover.lock);
	while (!mover_ended(mover_state(&l->mover))) {
		if (!said && mover_state(&l->mover) >= GM_MIGRATE_IS_LOST)
			tool_note("the guest has ended; the rest of its memory is waited for");
		said = true;
		signo = wait_for(l);
		if (signo && l->signo)
			_exit(EXIT_SIGNAL + signo);
		l->signo = signo;
		if (signo)
			gm_migrate_in_give_up(l->mover.in, -ECANCELED);
	}
	let_read(l, LAST_WORD);
	let_ask(l);
	return mover_state(&l->mover) == GM_MIGRATE_IS_ENDED;
}

static int run_guest(struct listen *l)
{
	const struct run_guest guest = {.opts = l->run,
		.host = &l->host,
		.engine = &l->engine,
		.memory = &l->memory,
		.mover = &l->mover,
		.json = &l->json,
		.signals = l->signals};
	int status;

	__atomic_store_n(&l->mover.engine, &l->engine, __ATOMIC_RELEASE);
	status = run_to_end(&guest);
	if (l->mover.out)
		mover_finish(&l->mover);
	else if (!take_rest(l) && status == EXIT_OK)
		status = EXIT_PAGES;
	return status;
}

/* ---- all of it ---- */

static bool open_all(struct listen *l)
{
	struct mover_in_opts in = {.memory_max = l->o->memory_max};
	struct migrate_opts *o = l->o;

	if (!run_watch_signals(&l->signals) || !address_parse(o->address, &in.address) ||
		!migrate_check_memory(o, &l->host) ||
		(o->json && !tool_output_open(&l->json, o->json, false)) ||
		(o->events && !tool_output_open(&l->events, o->events, true)) ||
		!mover_init(&l->mover, o->control))
		return false;
	l->mover.events = o->events ? &l->events : NULL;
	l->mover.quiet = o->quiet;
	l->mover.memory_max = o->memory_max;
	l->mover.backing = o->run.memory.backing.path;
	in.flags = o->in_flags;
	if (!mover_listen(&l->mover, &in))
		return false;
	if (!o->quiet)
		tool_note("waits for a guest at %s", l->mover.name);
	mover_say(&l->mover, "listening", NULL);
	return mover_start(&l->mover);
}

static void close_all(struct listen *l)
{
	if (l->engine_made)
		run_engine_fini(&l->engine);
	mover_fini(&l->mover);
	run_memory_fini(&l->memory);
	restore_about_fini(&l->about, l->run);
	if (l->signals >= 0)
		close(l->signals);
}

int migrate_listen(struct migrate_opts *o)
{
	static struct listen l;
	int status = EXIT_FAILED;
	bool guarded = gm_guard_install() == 0;

	l = (struct listen){
		.o = o, .run = &o->run, .signals = -1, .host = {.size = sizeof(l.host)}};
	l.mover = (struct mover){.wake = -1, .ask = -1, .listener = -1, .spare = -1};
	pthread_mutex_init(&l.mover.lock, NULL);
	gm_host_probe(&l.host, NULL);
	if (open_all(&l)) {
		if (take_guest(&l)) {
			status = run_guest(&l);
		} else {
			/* It may still be opening connections, and would find nobody. */
			if (mover_state(&l.mover) == GM_MIGRATE_IS_FAILED)
				let_read(&l, FAREWELL);
			let_ask(&l);
			status = l.signo ? EXIT_SIGNAL + l.signo : EXIT_STAYED;
		}
	}
	close_all(&l);
	if (!tool_output_close(&l.events) && status == EXIT_OK)
		status = EXIT_FAILED;
	tool_output_close(&l.json);
	if (guarded)
		gm_guard_remove();
	return status;
}
