/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_lines.c - see migrate_lines.h. */
#include "services/migrate_lines.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "core/error.h"
#include "sys/sys.h"

#define LEAVE_NS UINT64_C(1000000000)
#define EVENTS 32
#define PACE_NS UINT64_C(250000000)

/* ---- life ---- */

int gm_migrate_lines_init(struct gm_migrate_lines *lines, struct gm_error *err)
{
	int rc = 0;

	memset(lines, 0, sizeof(*lines));
	lines->other = -1;
	lines->timer = -1;
	lines->kick = -1;
	lines->timer_at = GM_MIGRATE_NEVER;
	pthread_mutex_init(&lines->lock, NULL);
	lines->epoll = gm_sys_epoll_create();
	if (lines->epoll < 0)
		rc = lines->epoll;
	if (!rc) {
		lines->kick = gm_sys_eventfd();
		rc = lines->kick < 0 ? lines->kick
				     : gm_sys_epoll_add(lines->epoll, lines->kick, &lines->kick);
	}
	if (!rc) {
		lines->timer = gm_sys_timerfd();
		rc = lines->timer < 0 ? lines->timer
				      : gm_sys_epoll_add(lines->epoll, lines->timer, &lines->timer);
	}
	if (!rc)
		return 0;
	gm_migrate_lines_free(lines);
	return gm_error_set(err, rc, 0, 0, "a migration has no descriptors: %s", gm_error_word(rc));
}

void gm_migrate_lines_free(struct gm_migrate_lines *lines)
{
	const int fds[] = {lines->epoll, lines->timer, lines->kick};

	for (uint32_t i = 0; i < lines->nr_links; i++)
		gm_migrate_conn_free(lines->links[i].conn);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (fds[i] >= 0)
			gm_sys_close(fds[i]);
	}
	pthread_mutex_destroy(&lines->lock);
}

/* ---- links ---- */

static struct gm_migrate_link *unused(struct gm_migrate_lines *lines)
{
	struct gm_migrate_link *found = NULL;
	uint32_t strangers = 0;

	for (uint32_t i = 0; i < lines->nr_links; i++) {
		struct gm_migrate_link *link = &lines->links[i];

		if (!link->conn && !found)
			found = link;
		strangers += link->conn && !link->opened && !link->leaving;
	}
	if (!found && lines->nr_links < MIGRATE_LINKS)
		found = &lines->links[lines->nr_links];
	return strangers < MIGRATE_STRANGERS ? found : NULL;
}

static void is_used(struct gm_migrate_lines *lines, const struct gm_migrate_link *link)
{
	uint32_t i = (uint32_t)(link - lines->links);

	if (i == lines->nr_links)
		lines->nr_links++;
}

static void is_unused(struct gm_migrate_lines *lines, struct gm_migrate_link *link)
{
	*link = (struct gm_migrate_link){.conn = NULL};
	while (lines->nr_links && !lines->links[lines->nr_links - 1].conn)
		lines->nr_links--;
}

/*
 * Room to send is waited for only while a socket is full: one of this host wakes who waits for it each time its peer
 * has read, in the midst of what the peer was waiting for.
 */
static int wait_for(struct gm_migrate_lines *lines, struct gm_migrate_link *link, bool room)
{
	uint32_t events = EPOLLIN | EPOLLRDHUP | EPOLLET | (room ? (uint32_t)EPOLLOUT : 0);

	link->full = room;
	return gm_sys_epoll_set(lines->epoll, gm_migrate_conn_fd(link->conn), events, link);
}

int gm_migrate_lines_add(struct gm_migrate_lines *lines, int fd, uint64_t until,
	struct gm_migrate_link **ret, struct gm_error *err)
{
	struct gm_migrate_link *link = unused(lines);
	struct gm_migrate_conn *conn = NULL;
	int rc =
		link ? gm_migrate_conn_create(fd, &lines->terms, &conn, err)
		     : gm_error_set(err, -EMFILE, 0, 0,
			       "%u connections have not said yet what they are", MIGRATE_STRANGERS);

	if (rc) {
		gm_sys_close(fd);
		return rc;
	}
	*link = (struct gm_migrate_link){
		.conn = conn, .until = until, .readable = true, .writable = true};
	rc = wait_for(lines, link, false);
	if (rc) {
		gm_migrate_conn_free(conn);
		*link = (struct gm_migrate_link){.conn = NULL};
		return gm_error_set(
			err, rc, 0, 0, "a connection cannot be waited for: %s", gm_error_word(rc));
	}
	is_used(lines, link);
	lines->busy = true;
	*ret = link;
	return 0;
}

static void forget_slot(struct gm_migrate_lines *lines, const struct gm_migrate_link *link)
{
	if (link->opened && lines->slots[link->slot] == link)
		lines->slots[link->slot] = NULL;
}

void gm_migrate_lines_drop(struct gm_migrate_lines *lines, struct gm_migrate_link *link)
{
	forget_slot(lines, link);
	lines->wire += gm_migrate_conn_came(link->conn) + gm_migrate_conn_went(link->conn);
	/* Closing takes it out of epoll: nobody else has the socket. */
	(void)gm_sys_epoll_remove(lines->epoll, gm_migrate_conn_fd(link->conn));
	gm_migrate_conn_free(link->conn);
	is_unused(lines, link);
}

void gm_migrate_lines_leave(
	struct gm_migrate_lines *lines, struct gm_migrate_link *link, uint64_t now)
{
	forget_slot(lines, link);
	link->leaving = true;
	link->again = false;
	link->held = false;
	link->readable = true;
	link->until = gm_migrate_after(now, LEAVE_NS);
	lines->busy = true;
}

void gm_migrate_lines_leave_all(struct gm_migrate_lines *lines, uint32_t epoch, uint64_t now)
{
	for (uint32_t i = 0; i < lines->nr_links; i++) {
		struct gm_migrate_link *link = &lines->links[i];

		if (link->conn && !link->leaving && link->epoch == epoch)
			gm_migrate_lines_leave(lines, link, now);
	}
}

int gm_migrate_lines_is(
	struct gm_migrate_lines *lines, struct gm_migrate_link *link, uint32_t slot, uint32_t epoch)
{
	int rc = gm_migrate_conn_is(link->conn, slot, epoch);

	if (rc)
		return rc;
	/* The one of the last epoch leaves. */
	if (lines->slots[slot])
		gm_migrate_lines_leave(lines, lines->slots[slot], gm_sys_now_ns());
	lines->slots[slot] = link;
	link->slot = slot;
	link->epoch = epoch;
	link->opened = true;
	return 0;
}

bool gm_migrate_lines_may_tell(struct gm_migrate_link *link, int rc, bool has)
{
	bool may = has && (rc == -EPROTO || rc == -EBADMSG || rc == -EMFILE);

	if (may) {
		link->readable = false;
		link->again = false;
	}
	return may;
}

static void say_last(struct gm_migrate_link *link)
{
	uint8_t text[GM_MIGRATE_TEXT_MAX];
	uint32_t len = link->last_text ? gm_migrate_put_text(link->last_text, text) : 0;

	if (!link->last_type || gm_migrate_conn_sends(link->conn))
		return;
	(void)gm_migrate_conn_say(link->conn, link->last_type, link->last_number, text, len);
	link->last_type = 0;
}

void gm_migrate_lines_farewell(
	struct gm_migrate_link *link, uint32_t type, uint64_t number, const char *text)
{
	link->last_type = type;
	link->last_number = number;
	link->last_text = text;
	say_last(link);
}

/* What it has to say, then until the peer closes: what it sent meanwhile would otherwise throw away what we said. */
static void leave_on(struct gm_migrate_lines *lines, struct gm_migrate_link *link, uint64_t now)
{
	uint8_t away[4096];
	bool moved;
	ssize_t nr = 0;
	int rc = gm_migrate_lines_flush(lines, link, &moved);

	if (!rc && link->last_type && !gm_migrate_conn_sends(link->conn)) {
		say_last(link);
		rc = gm_migrate_lines_flush(lines, link, &moved);
	}
	for (uint32_t i = 0; !rc && link->readable && i < MIGRATE_TURNS; i++) {
		nr = gm_sys_recv(gm_migrate_conn_fd(link->conn), away, sizeof(away), MSG_DONTWAIT);
		if (nr == -EAGAIN)
			link->readable = false;
		else if (nr <= 0 && nr != -EINTR)
			rc = -EPIPE;
	}
	if (rc || now >= link->until)
		gm_migrate_lines_drop(lines, link);
	else if (link->readable || moved)
		lines->busy = true;
}

void gm_migrate_lines_tidy(struct gm_migrate_lines *lines, uint64_t now)
{
	for (uint32_t i = 0; i < lines->nr_links; i++) {
		struct gm_migrate_link *link = &lines->links[i];

		if (link->conn && link->leaving)
			leave_on(lines, link, now);
	}
}

uint64_t gm_migrate_lines_due(const struct gm_migrate_lines *lines)
{
	uint64_t due = GM_MIGRATE_NEVER;

	for (uint32_t i = 0; i < lines->nr_links; i++) {
		const struct gm_migrate_link *link = &lines->links[i];

		if (link->conn && (link->leaving || !link->opened) && link->until < due)
			due = link->until;
	}
	return due;
}

int gm_migrate_lines_flush(
	struct gm_migrate_lines *lines, struct gm_migrate_link *link, bool *ret_moved)
{
	size_t sent = 0;
	int rc;

	*ret_moved = false;
	if (!link->writable || !gm_migrate_conn_sends(link->conn))
		return 0;
	rc = gm_migrate_conn_flush(link->conn, MIGRATE_PIECE, &sent);
	*ret_moved = sent > 0;
	if (rc == -EAGAIN && sent >= MIGRATE_PIECE) {
		lines->busy = true;
		return 0;
	}
	if (rc == -EAGAIN) {
		link->writable = false;
		return link->full ? 0 : wait_for(lines, link, true);
	}
	return rc;
}

/* ---- waiting ---- */

int gm_migrate_lines_watch(struct gm_migrate_lines *lines, int fd)
{
	int rc = 0;

	if (lines->other >= 0)
		(void)gm_sys_epoll_remove(lines->epoll, lines->other);
	if (fd >= 0)
		rc = gm_sys_epoll_add(lines->epoll, fd, &lines->other);
	lines->other = rc ? -1 : fd;
	return rc;
}

static void on_event(struct gm_migrate_lines *lines, const struct epoll_event *event)
{
	struct gm_migrate_link *link = event->data.ptr;
	uint64_t count;

	if (event->data.ptr == &lines->kick) {
		(void)!gm_sys_read(lines->kick, &count, sizeof(count));
	} else if (event->data.ptr == &lines->timer) {
		(void)!gm_sys_read(lines->timer, &count, sizeof(count));
		lines->timer_at = GM_MIGRATE_NEVER;
	} else if (event->data.ptr == &lines->other) {
		lines->other_ready = true;
	} else {
		link->readable |= (event->events & ~(uint32_t)EPOLLOUT) != 0;
		link->ending |= (event->events & ~(uint32_t)(EPOLLIN | EPOLLOUT)) != 0;
		link->writable |= (event->events & ~(uint32_t)(EPOLLIN | EPOLLRDHUP)) != 0;
		/* It would only be told more often. */
		if (link->full && !gm_migrate_conn_sends(link->conn))
			(void)wait_for(lines, link, false);
	}
}

/* The timer strikes too early rather than be set anew for each message. */
int gm_migrate_lines_arm(struct gm_migrate_lines *lines, uint64_t due)
{
	uint64_t now;
	int rc;

	if (due >= lines->timer_at)
		return 0;
	now = gm_sys_now_ns();
	rc = gm_sys_timer_set(lines->timer, due > now ? due - now : 1);
	if (!rc)
		lines->timer_at = due;
	return rc;
}

int gm_migrate_lines_wait(struct gm_migrate_lines *lines, int timeout_ms, uint64_t due)
{
	struct epoll_event events[EVENTS];
	int rc = gm_migrate_lines_arm(lines, due);
	bool busy = lines->busy;
	int nr;

	if (rc)
		return rc;
	/* Whoever adds a connection meanwhile kicks, too. */
	lines->busy = false;
	pthread_mutex_unlock(&lines->lock);
	nr = gm_sys_epoll_wait(lines->epoll, events, EVENTS, busy ? 0 : timeout_ms);
	pthread_mutex_lock(&lines->lock);
	lines->busy |= nr < 0 && busy;
	if (nr < 0)
		return nr == -EINTR ? 0 : nr;
	for (int i = 0; i < nr; i++)
		on_event(lines, &events[i]);
	return 0;
}

void gm_migrate_lines_kick(const struct gm_migrate_lines *lines)
{
	const uint64_t one = 1;

	/* -EAGAIN: it has been kicked two to the power of 64 times. */
	(void)!gm_sys_write(lines->kick, &one, sizeof(one));
}

uint64_t gm_migrate_lines_wire(const struct gm_migrate_lines *lines)
{
	uint64_t sum = lines->wire;

	for (uint32_t i = 0; i < lines->nr_links; i++) {
		const struct gm_migrate_conn *conn = lines->links[i].conn;

		if (conn)
			sum += gm_migrate_conn_came(conn) + gm_migrate_conn_went(conn);
	}
	return sum;
}

void gm_migrate_lines_pace(struct gm_migrate_lines *lines, uint64_t bytes, uint64_t now)
{
	uint64_t ns = now - lines->paced_at;

	if (lines->paced_at && ns < PACE_NS)
		return;
	if (lines->paced_at)
		lines->pace =
			(uint64_t)((unsigned __int128)(bytes - lines->paced) * 1000000000u / ns);
	lines->paced_at = now;
	lines->paced = bytes;
}

void gm_migrate_lines_stats(const struct gm_migrate_lines *lines, struct gm_migrate_stats *stats)
{
	bool first = stats->state == GM_MIGRATE_IS_PRECOPY && stats->round <= 1;

	if (stats->state >= GM_MIGRATE_IS_ENDED || !lines->pace)
		return;
	stats->rate = lines->pace;
	if ((first || stats->state == GM_MIGRATE_IS_POSTCOPY) && stats->left < UINT64_MAX)
		stats->expected_end_ns =
			(uint64_t)((unsigned __int128)stats->left * 1000000000u / lines->pace);
}

/* ---- words and times ---- */

const char *gm_migrate_lines_why(int rc, const char *why)
{
	if (why)
		return why;
	switch (rc) {
	case -EPIPE:
		return "the peer has closed the connection";
	case -ECONNRESET:
		return "the connection was reset";
	case -EBADMSG:
		return "what came has another sum than was said";
	case -ECONNREFUSED:
		return "nobody listens there";
	case -ENOMEM:
		return "there is no memory for the connection";
	default:
		return "the connection failed";
	}
}

static uint64_t time_of(uint32_t ms, uint32_t normal_ms)
{
	return ms == UINT32_MAX ? GM_MIGRATE_NEVER
				: (uint64_t)(ms ? ms : normal_ms) * UINT64_C(1000000);
}

struct gm_migrate_times gm_migrate_lines_times(const struct gm_migrate_deadlines *d)
{
	return (struct gm_migrate_times){
		.open_ns = time_of(d->open, 10000),
		.answer_ns = time_of(d->answer, 10000),
		.work_ns = time_of(d->work, 60000),
		.own_ns = time_of(d->own, 60000),
		.ping_ns = time_of(d->ping, 1000),
		.line_ns = time_of(d->line, 5000),
		.resume_ns = time_of(d->resume, 300000),
		.linger_ns = time_of(d->linger, 10000),
	};
}
