/* SPDX-License-Identifier: BSD-3-Clause */
/* mover_command.c - lines of the control socket that ask for something: "send {...}", "cancel" and so on. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "mover.h"

static char *answer(const char *error)
{
	json_t *json = error ? json_pack("{s:o}", "error", tool_json_text(error))
			     : json_pack("{s:b}", "ok", 1);
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	char *line = tool_printf("%s\n", text ? text : "{\"error\":\"out of memory\"}");

	json_decref(json);
	free(text);
	return line;
}

static int do_cancel(struct mover *m)
{
	uint32_t state = mover_state(m);

	if (m->out)
		return gm_migrate_out_cancel(m->out, -ECANCELED);
	/* The destination may leave before it runs the guest. */
	return m->in && state < GM_MIGRATE_IS_POSTCOPY ? gm_migrate_in_give_up(m->in, -ECANCELED)
						       : -EINVAL;
}

static int do_postcopy(struct mover *m)
{
	return m->out ? gm_migrate_out_switch(m->out, GM_MIGRATE_OUT_POSTCOPY) : -EINVAL;
}

static int do_stop(struct mover *m)
{
	return m->out ? gm_migrate_out_switch(m->out, GM_MIGRATE_OUT_STOP) : -EINVAL;
}

static int do_resume(struct mover *m)
{
	return m->out ? gm_migrate_out_resume(m->out) : -EINVAL;
}

static int do_reclaim(struct mover *m)
{
	return m->out ? gm_migrate_out_reclaim(m->out) : -EINVAL;
}

static int do_force(struct mover *m)
{
	return m->out ? gm_migrate_out_force(m->out) : -EINVAL;
}

static int do_give_up(struct mover *m)
{
	return m->in && !mover_ended(mover_state(m)) ? gm_migrate_in_give_up(m->in, -ECANCELED)
						     : -EINVAL;
}

static const struct {
	const char *word;
	int (*run)(struct mover *m);
	bool listens;
	const char *why; /* of -EINVAL */
} commands[] = {
	{"cancel", do_cancel, false,
		"there is no migration here that can be cancelled: once the guest may run at the "
		"destination it is reclaimed instead"},
	{"postcopy", do_postcopy, false, "there is no migration here that is in pre-copy"},
	{"stop", do_stop, false, "there is no migration here that is in pre-copy"},
	{"resume", do_resume, true,
		"there is no migration here that can be resumed: that is done at the source, when "
		"the line is lost"},
	{"reclaim", do_reclaim, true,
		"the guest cannot be reclaimed here: it was not handed over, or is known to run at "
		"the destination"},
	{"force", do_force, false,
		"the guest cannot be forced to run here: it was not handed over, or the "
		"destination answers, so it is not dead"},
	{"give-up", do_give_up, false,
		"there is nothing here to give up: that is done at the destination, before all "
		"memory is there"},
};

static bool send_it(struct mover *m, const char *options, char **ret_answer)
{
	json_t *json = json_loads(options, JSON_REJECT_DUPLICATES, NULL);
	char *why = json ? mover_send(m, json) : tool_strdup("these are no options");
	bool well = !why;

	*ret_answer = answer(why);
	json_decref(json);
	free(why);
	return well;
}

bool mover_tell(void *ctx, const char *line, char **ret_answer)
{
	struct mover *m = ctx;

	if (strncmp(line, "send ", 5) == 0)
		return send_it(m, line + 5, ret_answer);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		int rc;

		if (strcmp(line, commands[i].word) != 0)
			continue;
		rc = commands[i].run(m);
		*ret_answer = answer(rc == -EINVAL    ? commands[i].why
				     : rc == -ENOTSUP ? "the destination has no post-copy"
				     : rc < 0         ? strerror(-rc)
						      : NULL);
		return rc == 0 && commands[i].listens;
	}
	*ret_answer = answer("json, metrics, text, or what guestmem-migrate(1) names, is wanted");
	return false;
}
