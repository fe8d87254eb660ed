/* SPDX-License-Identifier: BSD-3-Clause */
/* mover_advice.c - why a migration ended or its line was lost, in words of this command, and what to do next. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "mover.h"

/* ---- why ---- */

/* What this command asked the library to cancel for, by the number that it gave or has got. NULL: nothing of that. */
static const char *cancelled(const struct mover *m, int rc)
{
	switch (rc) {
	case -ECANCELED:
		return "it was cancelled";
	case -ESRCH:
		return "the guest ended before it was handed over";
	case -ETIME:
		return m->way == GM_MIGRATE_OUT_PRECOPY
			       ? "the guest writes faster than its memory goes, and --precopy "
				 "allows no "
				 "other way"
			       : "the guest writes faster than its memory goes, and the "
				 "destination "
				 "takes no post-copy: --stop pauses it for as long as it takes";
	case -ENOTSUP:
		return "--postcopy was asked for, and the destination takes no post-copy "
		       "(--no-postcopy, or a backing that has none)";
	default:
		return NULL;
	}
}

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text);
	size_t nr = strlen(end);

	return len >= nr && strcmp(text + len - nr, end) == 0;
}

/* With the error's name, where that is not said yet. */
static char *because(const char *why, int rc)
{
	const char *error = rc ? strerror(-rc) : "";
	bool said = !rc || (rc == -ECANCELED && why[0]) || strstr(why, error) ||
		    ends_with(why, "in time");

	return tool_printf("%s%s%s", why, why[0] && !said ? ": " : "", said && why[0] ? "" : error);
}

/* Pages that could not be stored: the file that has no room for them says so to nobody else. */
static char *not_stored(const struct mover *m, const char *why, int rc)
{
	struct statvfs fs;

	if (!m->backing || statvfs(m->backing, &fs) < 0 || fs.f_bavail)
		return because(why, rc);
	return tool_printf("%s: %s: %s", why, m->backing, strerror(ENOSPC));
}

/* More memory than it takes: how much that is each end knows for itself. */
static char *too_much(const struct mover *m, const char *why, int rc)
{
	struct gm_migrate_stats s = {.size = sizeof(s)};
	char bytes[TOOL_UNIT_CAP];

	if (m->in)
		return tool_printf(
			"%s: more than --memory-max %s", why, tool_bytes(m->memory_max, bytes));
	if (gm_migrate_out_stats(m->out, &s) < 0)
		return because(why, rc);
	return tool_printf("%s: it has %s", why, tool_bytes(s.memory, bytes));
}

char *mover_why(struct mover *m, uint32_t state, int rc, const char *why)
{
	const char *words = m->out && state == GM_MIGRATE_IS_CANCELLED ? cancelled(m, rc) : NULL;

	if (words)
		return tool_strdup(words);
	/* It is asked for connections, and knows best why it has none. */
	if (m->out && m->unreached[0])
		return tool_strdup(m->unreached);
	if (m->in && rc && strstr(why, "be stored"))
		return not_stored(m, why, rc);
	if (rc == -E2BIG && strstr(why, "more memory") && (m->out || m->memory_max))
		return too_much(m, why, rc);
	if (m->out && state == GM_MIGRATE_IS_FAILED && !m->accepted &&
		(rc == -EPIPE || rc == -ECONNRESET))
		return tool_printf("%s closed the connection before it took the guest: what it "
				   "says itself may tell why",
			m->to_text);
	return because(why, rc);
}

/* ---- what next ---- */

static char *lost_here(const struct mover *m, const struct gm_migrate_stats *s)
{
	const char *socket = m->socket ? m->socket : "SOCKET";
	char bytes[TOOL_UNIT_CAP];

	if (s->runs == GM_MIGRATE_RUNS_NO)
		return tool_printf(
			"the line is lost, and the guest does not run here: it was not told to. At "
			"the source, guestmem migrate resume, or reclaim, --control SOCKET; or "
			"here, "
			"guestmem migrate give-up --control %s: then it never does",
			socket);
	if (!s->left)
		return tool_strdup("the line is lost, and nothing is missing here: only the source "
				   "does not know that. There, guestmem migrate resume --control "
				   "SOCKET");
	return tool_printf("the line is lost, and %s are missing here: at the source, guestmem "
			   "migrate resume --control SOCKET; or, if it is dead, here, guestmem "
			   "migrate give-up --control %s",
		tool_bytes(s->left, bytes), socket);
}

/* Of a source that did not reach the destination when it tried again. */
static char *unreached(const struct mover *m, const struct gm_migrate_stats *s)
{
	const char *socket = m->socket ? m->socket : "SOCKET";

	if (!m->unreached[0])
		return tool_strdup("");
	return s->runs == GM_MIGRATE_RUNS_YES
		       ? tool_printf(
				 ". If that process is dead, and the guest with it: guestmem "
				 "migrate force --control %s has it go on here, from where it was "
				 "when it left",
				 socket)
		       : tool_printf(". If that process is dead: guestmem migrate force --control "
				     "%s has the guest go on here",
				 socket);
}

static char *lost_there(const struct mover *m, const struct gm_migrate_stats *s)
{
	const char *socket = m->socket ? m->socket : "SOCKET";
	char *more = unreached(m, s);
	char bytes[TOOL_UNIT_CAP];
	char *text;

	if (s->runs != GM_MIGRATE_RUNS_YES)
		text = tool_printf(
			"the line is lost, and the guest may run at the destination, or not: "
			"guestmem migrate resume --control %s asks, and has it run there; "
			"reclaim asks, and has it run here if it does not there%s",
			socket, more);
	else if (s->left)
		text = tool_printf("the line is lost; the guest runs at the destination, and lacks "
				   "%s at least: guestmem migrate resume --control %s%s",
			tool_bytes(s->left, bytes), socket, more);
	else
		text = tool_printf(
			"the line is lost; the guest runs at the destination, and all was sent, "
			"though not all may be there: guestmem migrate resume --control %s%s",
			socket, more);
	free(more);
	return text;
}

static char *doubt(const struct mover *m, const struct gm_migrate_stats *s)
{
	const char *socket = m->socket ? m->socket : "SOCKET";

	if (s->runs == GM_MIGRATE_RUNS_YES)
		return tool_printf(
			"the guest runs at the destination, or did, and was not reached again: "
			"guestmem migrate resume --control %s; force only if the destination is "
			"dead",
			socket);
	return tool_printf(
		"nobody knows whether the guest runs at the destination: guestmem migrate resume, "
		"or reclaim, --control %s; force only if the destination is dead",
		socket);
}

static char *given_up(struct mover *m, const struct gm_migrate_stats *s)
{
	char bytes[TOOL_UNIT_CAP];
	bool over;

	pthread_mutex_lock(&m->lock);
	over = m->over;
	pthread_mutex_unlock(&m->lock);
	if (m->out)
		return tool_strdup("the guest went to the destination, and some of its pages are "
				   "lost: who touches them there gets a machine check");
	if (over)
		return tool_printf("the guest has ended here, and %s of its memory are lost",
			tool_bytes(s->lost, bytes));
	return tool_printf("the guest runs here, and %s of its memory are lost: who touches them "
			   "gets a machine check",
		tool_bytes(s->lost, bytes));
}

char *mover_advice(struct mover *m, uint32_t state)
{
	struct gm_migrate_stats s;

	if (mover_stats(m, &s) < 0)
		return NULL;
	switch (state) {
	case GM_MIGRATE_IS_LOST:
		return m->out ? lost_there(m, &s) : lost_here(m, &s);
	case GM_MIGRATE_IS_DOUBT:
		return doubt(m, &s);
	case GM_MIGRATE_IS_GIVEN_UP:
		return given_up(m, &s);
	default:
		return NULL;
	}
}
