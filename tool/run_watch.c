/* SPDX-License-Identifier: BSD-3-Clause */
/* run_watch.c - from the start of the payload to its end: times, signals, crashes. */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "mover.h"
#include "run.h"

static const int watched[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

bool run_watch_signals(int *ret_fd)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(watched) / sizeof(watched[0]); i++)
		sigaddset(&set, watched[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	*ret_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (*ret_fd < 0)
		tool_error("run: signalfd: %s", strerror(errno));
	return *ret_fd >= 0;
}

struct watch {
	struct run_engine *engine;
	struct run_result *result;
	struct mover *mover;
	int signals;
	int pending; /* a signal that waits until the migration has ended here */
	double begun;
	double ask; /* times of tool_now(), INFINITY: never */
	double end;
	double restart;
	double save;
	bool over;
};

static double at(const struct watch *w, double seconds)
{
	return seconds > 0 ? w->begun + seconds : INFINITY;
}

/* Threads cannot be ended from outside: they are asked, and a second signal does not wait for them. */
static void end_with(struct watch *w, enum run_outcome outcome)
{
	w->result->outcome = outcome;
	w->over = true;
	/* What is saved goes on elsewhere, and is told nothing. */
	if (outcome != RUN_OUT_SAVED)
		run_engine_ask(w->engine);
}

static void act_upon(struct watch *w, int signo)
{
	w->pending = 0;
	w->result->signal = signo;
	end_with(w, w->engine->opts->snapshot ? RUN_OUT_SAVED : RUN_OUT_INTERRUPTED);
}

static void take_signal(struct watch *w)
{
	struct signalfd_siginfo info;
	int signo;

	if (read(w->signals, &info, sizeof(info)) != sizeof(info))
		return;
	signo = (int)info.ssi_signo;
	if (w->result->outcome == RUN_OUT_INTERRUPTED || w->pending)
		_exit(EXIT_SIGNAL + signo);
	if (w->mover && !mover_signal(w->mover, signo))
		w->pending = signo;
	else
		act_upon(w, signo);
}

static bool held(const struct watch *w)
{
	return w->mover && w->mover->held;
}

/* Pages are missing, and nobody brings them now: who tells the guest something may wait for one of them. */
static bool stuck(const struct watch *w)
{
	return w->mover && w->mover->in && mover_state(w->mover) == GM_MIGRATE_IS_LOST;
}

/* What the mover wishes, and what has become of the migration. */
static void take_mover(struct watch *w)
{
	uint32_t state;

	if (!w->mover)
		return;
	mover_serve(w->mover);
	state = mover_state(w->mover);
	if (!held(w)) {
		if (w->pending && !mover_moves(w->mover))
			act_upon(w, w->pending);
		return;
	}
	if (state != GM_MIGRATE_IS_ENDED && state != GM_MIGRATE_IS_GIVEN_UP)
		return;
	w->result->lost = state == GM_MIGRATE_IS_GIVEN_UP;
	w->result->outcome = RUN_OUT_MOVED;
	w->over = true;
}

/* False after a message: then nothing runs any more. */
static bool restart(struct watch *w)
{
	double begun = tool_now();

	w->restart = INFINITY;
	run_engine_stop(w->engine);
	if (run_engine_crashed(w->engine))
		return true;
	if (!machine_move(&w->engine->machine) || !machine_start(&w->engine->machine))
		return false;
	w->result->restarts++;
	w->result->restart_seconds += tool_now() - begun;
	return true;
}

static void clear_event(int fd)
{
	uint64_t count;

	while (read(fd, &count, sizeof(count)) > 0)
		;
}

static bool take_time(struct watch *w, double now)
{
	if (held(w) || stuck(w))
		return true;
	if (now >= w->end) {
		end_with(w, RUN_OUT_TIMEOUT);
	} else if (now >= w->save) {
		end_with(w, RUN_OUT_SAVED);
	} else if (now >= w->restart) {
		return restart(w);
	} else if (now >= w->ask) {
		w->ask = INFINITY;
		w->result->asked = true;
		run_engine_ask(w->engine);
	}
	return true;
}

/* ms until there is something to be done without being asked. */
static int timeout_of(struct watch *w)
{
	double next = fmin(fmin(w->ask, w->end), fmin(w->restart, w->save)) - tool_now();
	int timeout = next > 1000 ? 1000000 : next > 0 ? (int)ceil(next * 1000) : 0;
	int tick;

	if (held(w) || stuck(w))
		return -1;
	tick = w->engine->kvm ? machine_throttle_tick(&w->engine->machine) : -1;
	return tick >= 0 && tick < timeout ? tick : timeout;
}

/* A guest that is held runs nowhere in this process, and has not ended. */
static bool goes_on(const struct watch *w)
{
	return !w->over && (held(w) || !run_engine_all_ended(w->engine));
}

/* Until all have ended, one crashed, or @w is over. */
static bool wait_for_end(struct watch *w)
{
	while (goes_on(w)) {
		struct pollfd fds[] = {{.fd = run_engine_event(w->engine), .events = POLLIN},
			{.fd = w->signals, .events = POLLIN},
			{.fd = mover_ask(w->mover), .events = POLLIN}};

		if (poll(fds, 3, timeout_of(w)) > 0) {
			clear_event(fds[0].fd);
			if (fds[1].revents)
				take_signal(w);
			if (fds[2].revents)
				take_mover(w);
		}
		if (!held(w) && run_engine_crashed(w->engine)) {
			end_with(w, RUN_OUT_CRASHED);
			return true;
		}
		if (goes_on(w) && !take_time(w, tool_now()))
			return false;
	}
	return true;
}

/* Threads that were asked come to an end by themselves; a signal meanwhile ends all. */
static void wait_for_threads(struct watch *w)
{
	while (!w->engine->kvm && !run_engine_all_ended(w->engine)) {
		struct pollfd fds[2] = {{.fd = run_engine_event(w->engine), .events = POLLIN},
			{.fd = w->signals, .events = POLLIN}};

		poll(fds, 2, -1);
		clear_event(fds[0].fd);
		if (fds[1].revents)
			take_signal(w);
	}
}

bool run_watch(struct run_engine *e, int signals, struct mover *mover, struct run_result *ret)
{
	struct watch w = {.engine = e,
		.result = ret,
		.mover = mover,
		.signals = signals,
		.begun = tool_now()};
	bool well;

	*ret = (struct run_result){0};
	w.ask = at(&w, e->opts->time);
	w.end = at(&w, e->opts->timeout);
	w.restart = at(&w, e->opts->restart);
	w.save = at(&w, e->opts->snapshot_at);
	well = run_engine_start(e);
	mover_started(mover, well ? 0 : -EIO);
	if (!well)
		return false;
	well = wait_for_end(&w);
	wait_for_threads(&w);
	ret->seconds = tool_now() - w.begun;
	run_engine_stop(e);
	if (well && run_engine_crashed(e) && ret->outcome == RUN_OUT_DONE)
		ret->outcome = RUN_OUT_CRASHED;
	return well;
}
