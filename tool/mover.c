/* SPDX-License-Identifier: BSD-3-Clause */
/* mover.c - the thread beside the guest, and what it wishes of the guest's own: see mover.h. */
#include "mover.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EACH 1.0 /* seconds between two lines about progress */

static void ring(int fd)
{
	static const uint64_t one = 1;

	/* It can only fail if 2^64 - 1 were not read. */
	if (write(fd, &one, sizeof(one)) < 0)
		return;
}

static void clear(int fd)
{
	uint64_t count;

	while (read(fd, &count, sizeof(count)) > 0)
		;
}

/* ---- for the guest's thread ---- */

int mover_ask(const struct mover *m)
{
	return m ? m->ask : -1;
}

uint32_t mover_turn(struct mover *m)
{
	uint32_t wishes;

	clear(m->ask);
	pthread_mutex_lock(&m->lock);
	wishes = m->wishes;
	m->wishes = 0;
	m->turning = wishes;
	pthread_mutex_unlock(&m->lock);
	return wishes;
}

void mover_turned(struct mover *m)
{
	pthread_mutex_lock(&m->lock);
	m->turning = false;
	pthread_mutex_unlock(&m->lock);
}

uint32_t mover_state(struct mover *m)
{
	uint32_t state;

	pthread_mutex_lock(&m->lock);
	state = m->state;
	pthread_mutex_unlock(&m->lock);
	return state;
}

bool mover_moves(struct mover *m)
{
	uint32_t state = m ? mover_state(m) : GM_MIGRATE_IS_IDLE;

	return state != GM_MIGRATE_IS_IDLE && !mover_ended(state);
}

bool mover_answers(struct mover *m)
{
	bool answers;

	pthread_mutex_lock(&m->lock);
	answers = m->answers;
	pthread_mutex_unlock(&m->lock);
	return answers;
}

/* ---- its own ---- */

void mover_wish(struct mover *m, uint32_t wish)
{
	pthread_mutex_lock(&m->lock);
	m->wishes |= wish;
	pthread_mutex_unlock(&m->lock);
	ring(m->ask);
}

int mover_stats(struct mover *m, struct gm_migrate_stats *ret)
{
	int rc = -ENOENT;

	*ret = (struct gm_migrate_stats){.size = sizeof(*ret)};
	if (m->out)
		rc = gm_migrate_out_stats(m->out, ret);
	else if (m->in)
		rc = gm_migrate_in_stats(m->in, ret);
	/* Of a layout that has not come. */
	if (!ret->memory)
		ret->left = 0;
	pthread_mutex_lock(&m->lock);
	if (m->in)
		ret->stray += m->turned_away;
	if (m->out && !ret->downtime_ns)
		ret->downtime_ns = (uint64_t)(m->stood * 1e9);
	pthread_mutex_unlock(&m->lock);
	return rc;
}

void mover_settle(struct mover *m)
{
	struct gm_migrate_stats stats;
	bool other;

	if (mover_stats(m, &stats) < 0)
		return;
	if (mover_ended(stats.state))
		mover_untrack(m);
	pthread_mutex_lock(&m->lock);
	other = m->state != stats.state || m->answers != stats.answers;
	if (m->state != stats.state && mover_ended(stats.state))
		m->ended = tool_now();
	m->state = stats.state;
	m->answers = stats.answers;
	pthread_mutex_unlock(&m->lock);
	if (other && !m->out && stats.state == GM_MIGRATE_IS_ENDED)
		mover_join_begin(m);
	if (other)
		ring(m->ask);
}

static bool quits(struct mover *m)
{
	bool quit;

	pthread_mutex_lock(&m->lock);
	quit = m->quit;
	pthread_mutex_unlock(&m->lock);
	return quit;
}

static int step(struct mover *m)
{
	return m->out ? gm_migrate_out_step(m->out, 0) : gm_migrate_in_step(m->in, 0);
}

/* A line a second, as long as there is something to be said. */
static int say_progress(struct mover *m)
{
	double now = tool_now();

	if (!mover_moves(m))
		return -1;
	if (now >= m->said + EACH) {
		m->said = now;
		mover_say(m, "progress", NULL);
	}
	return (int)ceil((m->said + EACH - now) * 1000) + 1;
}

/* ms until there is something to do that no descriptor tells. */
static int timeout_of(struct mover *m, bool accepts)
{
	int timeout = say_progress(m);
	int again = accepts ? -1 : (int)ceil((m->accepts - tool_now()) * 1000) + 1;

	if (again < 0)
		return timeout;
	return timeout < 0 || again < timeout ? again : timeout;
}

static int library_fd(const struct mover *m)
{
	return m->out ? gm_migrate_out_fd(m->out) : m->in ? gm_migrate_in_fd(m->in) : -1;
}

static void *run(void *arg)
{
	struct mover *m = arg;

	while (!quits(m)) {
		bool accepts = tool_now() >= m->accepts;
		struct pollfd fds[] = {{.fd = m->wake, .events = POLLIN},
			{.fd = m->control ? control_fd(m->control) : -1, .events = POLLIN},
			{.fd = library_fd(m), .events = POLLIN},
			{.fd = accepts ? m->listener : -1, .events = POLLIN}};
		int timeout = timeout_of(m, accepts);

		if (poll(fds, 4, m->joins ? 0 : timeout) < 0 && errno != EINTR)
			break;
		clear(m->wake);
		if (fds[3].revents)
			mover_accept(m);
		if (fds[2].revents && step(m) < 0)
			usleep(1000);
		if (fds[1].revents)
			control_turn(m->control);
		mover_settle(m);
		if (m->joins)
			mover_join(m);
	}
	control_drain(m->control);
	return NULL;
}

/* ---- life ---- */

bool mover_init(struct mover *m, const char *socket)
{
	static const struct control_ops ops = {.json = mover_json,
		.metrics = mover_metrics,
		.text = mover_text,
		.tell = mover_tell};

	*m = (struct mover){.socket = socket,
		.listener = -1,
		.spare = -1,
		.complained = -INFINITY,
		.begun = tool_now()};
	pthread_mutex_init(&m->lock, NULL);
	m->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	m->ask = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->wake < 0 || m->ask < 0) {
		tool_error("migrate: eventfd: %s", strerror(errno));
		return false;
	}
	return control_open(socket, &ops, m, &m->control);
}

bool mover_start(struct mover *m)
{
	int error = pthread_create(&m->thread, NULL, run, m);

	m->started = error == 0;
	if (error)
		tool_error("migrate: a thread: %s", strerror(error));
	return m->started;
}

void mover_fini(struct mover *m)
{
	if (m->started) {
		pthread_mutex_lock(&m->lock);
		m->quit = true;
		pthread_mutex_unlock(&m->lock);
		ring(m->wake);
		pthread_join(m->thread, NULL);
	}
	m->started = false;
	mover_untrack(m);
	gm_migrate_out_destroy(m->out);
	gm_migrate_in_destroy(m->in);
	control_close(m->control);
	if (m->listener >= 0) {
		close(m->listener);
		if (!m->tcp)
			unlink(m->name + strlen("unix:"));
	}
	if (m->spare >= 0)
		close(m->spare);
	if (m->wake >= 0)
		close(m->wake);
	if (m->ask >= 0)
		close(m->ask);
	pthread_mutex_destroy(&m->lock);
	*m = (struct mover){.wake = -1, .ask = -1, .listener = -1, .spare = -1};
}
