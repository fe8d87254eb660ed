/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mover_out.c - the source: the running guest is sent away.
 *
 * What the guest writes is seen by KVM's log of dirty pages, or, of threads, by a watch of their memory.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "mover.h"
#include "run_snapshot.h"
#include "run_state.h"

#define CONNECT_WAIT 5.0

/* ---- the embedder ---- */

/* The first connection finds out which of the host's addresses answers. */
static int on_connect(void *ctx, uint32_t connection, uint32_t index, int *ret_fd)
{
	struct mover *m = ctx;
	const char *why = "";
	int rc = address_connect(
		&m->to, connection == GM_MIGRATE_TO_CONTROL ? CONNECT_WAIT : 0, ret_fd, &why);

	(void)index;
	m->unreached[0] = '\0';
	if (rc < 0)
		snprintf(m->unreached, sizeof(m->unreached), "%s: %s", m->to_text, why);
	return rc;
}

static void on_pause(void *ctx)
{
	mover_wish(ctx, MOVER_PAUSE);
}

static void on_run(void *ctx)
{
	struct mover *m = ctx;

	pthread_mutex_lock(&m->lock);
	if (m->paused > 0)
		m->stood = tool_now() - m->paused;
	pthread_mutex_unlock(&m->lock);
	mover_wish(m, MOVER_GO_ON);
}

static void on_save(void *ctx)
{
	mover_wish(ctx, MOVER_SAVE);
}

static int on_harvest(void *ctx)
{
	struct mover *m = ctx;

	return m->watch ? gm_watch_harvest(m->watch, NULL, NULL)
			: gm_kvm_harvest(m->engine->machine.slots, NULL, NULL);
}

static void on_throttle(void *ctx, uint32_t percent)
{
	struct mover *m = ctx;

	machine_throttle(&m->engine->machine, percent);
	mover_wish(m, 0);
}

/* ---- tracking ---- */

static int track(struct mover *m, struct gm_error *err)
{
	int rc;

	if (!m->engine->kvm)
		return gm_watch_create(m->engine->memory->space, &m->watch, err);
	rc = gm_kvm_track(m->engine->machine.slots, GM_KVM_TRACK_BITMAP, err);
	m->tracks = rc == 0;
	return rc;
}

void mover_untrack(struct mover *m)
{
	if (m->tracks) {
		machine_throttle(&m->engine->machine, 0);
		gm_kvm_track(m->engine->machine.slots, GM_KVM_TRACK_NONE, NULL);
	}
	m->tracks = false;
	gm_watch_destroy(m->watch, NULL);
	m->watch = NULL;
}

/* ---- beginning ---- */

/* That of an earlier one goes, once nobody uses it. */
static bool clear_away(struct mover *m)
{
	bool turning;

	pthread_mutex_lock(&m->lock);
	turning = m->turning || m->wishes;
	pthread_mutex_unlock(&m->lock);
	if (turning)
		return false;
	if (gm_migrate_out_destroy(m->out) < 0)
		return false;
	m->out = NULL;
	if (gm_migrate_in_destroy(m->in) < 0)
		return false;
	m->in = NULL;
	return true;
}

static char *begin(struct mover *m, const struct gm_migrate_out_opts *opts)
{
	const struct gm_migrate_out_ops ops = {.size = sizeof(ops),
		.connect = on_connect,
		.pause = on_pause,
		.run = on_run,
		.save = on_save,
		.harvest = on_harvest,
		.throttle = m->engine->kvm ? on_throttle : NULL,
		.told = mover_told,
		.ctx = m};
	struct gm_error err = {.text = ""};
	int rc;

	m->unreached[0] = '\0';
	m->accepted = false;
	m->way = opts->way;
	pthread_mutex_lock(&m->lock);
	m->paused = 0;
	m->stood = 0;
	pthread_mutex_unlock(&m->lock);
	rc = gm_migrate_out_create(m->engine->memory->space, opts, &ops, &m->out, &err);
	if (rc == 0)
		rc = track(m, &err);
	if (rc == 0) {
		m->begun = tool_now();
		m->said = m->begun;
		rc = gm_migrate_out_start(m->out, &err);
	}
	if (rc == 0) {
		mover_settle(m);
		return NULL;
	}
	mover_untrack(m);
	gm_migrate_out_destroy(m->out);
	m->out = NULL;
	return tool_printf("%s", err.text[0] ? err.text : strerror(-rc));
}

char *mover_send(struct mover *m, const json_t *json)
{
	struct gm_migrate_out_opts opts = {.size = sizeof(opts)};
	const char *to = json_string_value(json_object_get(json, "to"));
	/* Pairs with the destination's, when the guest that came runs. */
	const struct run_engine *e = __atomic_load_n(&m->engine, __ATOMIC_ACQUIRE);
	const char *why = e ? run_engine_stays(e) : "there is no guest yet";
	char *wrong = NULL;

	if (!why && !json_is_object(json))
		why = "these are no options";
	if (!why)
		wrong = mover_options(json, &opts);
	if (wrong)
		return wrong;
	if (!why && (mover_moves(m) || !clear_away(m)))
		why = m->in ? "not all of its memory has come yet" : "it is on its way already";
	if (!why && (!to || strlen(to) >= ADDRESS_CAP || !address_parse(to, &m->to)))
		why = "where it is to go is no address";
	if (why)
		return tool_strdup(why);
	snprintf(m->to_text, sizeof(m->to_text), "%s", to);
	return begin(m, &opts);
}

/* ---- the guest's thread ---- */

static void pause_guest(struct mover *m)
{
	int rc = 0;

	if (!m->held)
		run_engine_pause(m->engine);
	m->held = true;
	pthread_mutex_lock(&m->lock);
	m->paused = tool_now();
	pthread_mutex_unlock(&m->lock);
	if (run_engine_crashed(m->engine))
		rc = -EIO;
	gm_migrate_out_paused(m->out, rc);
}

static void save_guest(struct mover *m)
{
	struct run_labels *l = tool_alloc(1, sizeof(*l));
	int rc = -EINVAL;
	uint8_t *bytes;
	size_t len;

	if (run_labels_make(m->engine, l)) {
		len = run_state_len(l->list, l->nr);
		bytes = tool_alloc(1, len);
		rc = len ? 0 : -E2BIG;
		if (len) {
			run_state_encode(l->list, l->nr, bytes);
			rc = gm_migrate_out_state(m->out, bytes, len);
		}
		free(bytes);
	}
	if (rc < 0)
		gm_migrate_out_cancel(m->out, rc);
	run_labels_fini(l);
	free(l);
}

void mover_serve(struct mover *m)
{
	uint32_t wishes = mover_turn(m);

	if (wishes & MOVER_PAUSE)
		pause_guest(m);
	if (wishes & MOVER_SAVE)
		save_guest(m);
	if ((wishes & MOVER_GO_ON) && m->held) {
		m->held = false;
		if (!run_engine_go_on(m->engine))
			tool_error("migrate: the guest cannot go on");
	}
	mover_turned(m);
}

bool mover_signal(struct mover *m, int signo)
{
	if (!mover_moves(m) || (m->in && mover_state(m) != GM_MIGRATE_IS_LOST))
		return true;
	if (m->in) {
		tool_note("SIG%s: the guest waits for pages, and can do nothing: resume at the "
			  "source, or give up "
			  "here; another signal ends this process all the same",
			sigabbrev_np(signo));
		return false;
	}
	if (gm_migrate_out_cancel(m->out, -ECANCELED) == 0) {
		tool_note("SIG%s: the migration is cancelled", sigabbrev_np(signo));
		return false;
	}
	tool_note(
		"SIG%s: the guest has been handed over, and needs its memory here until all of it "
		"is there; another signal ends this process all the same",
		sigabbrev_np(signo));
	return false;
}

/* A guest that has ended here cannot be handed over: what is wished is answered until the other end knows. */
void mover_finish(struct mover *m)
{
	while (mover_moves(m) && m->out) {
		struct pollfd wait = {.fd = m->ask, .events = POLLIN};

		gm_migrate_out_cancel(m->out, -ESRCH);
		poll(&wait, 1, 100);
		if (mover_turn(m) & MOVER_PAUSE)
			gm_migrate_out_paused(m->out, -ESRCH);
		mover_turned(m);
	}
}
