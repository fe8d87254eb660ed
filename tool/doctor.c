/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * doctor.c - "guestmem doctor": what this host offers and lacks for guest memory.
 *
 * Each line says one thing; where something is off or missing the next line has the command that
 * mends it.
 */
#include "doctor.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct tool_option options[] = {
	{"json", 'j', "[FILE]", "write JSON, to standard output or FILE, instead of text"},
	{NULL, 0, NULL, NULL},
};

static bool is_operand(const char *word)
{
	(void)word; /* there are none */
	return false;
}

static const struct tool_usage usage = {
	.command = "doctor",
	.operands = "[OPTION]...",
	.about = "Lists what this host offers and lacks for guest memory, with the commands that "
		 "mend it.\n"
		 "Changes nothing. The exit status is 0 if the basics work, 1 if they do not.",
	.options = options,
	.is_operand = is_operand,
};

void doctor_add(struct doctor *d, const char *name, enum doctor_state state, char *text, char *mend)
{
	d->checks = tool_realloc(d->checks, d->nr + 1, sizeof(*d->checks));
	d->checks[d->nr++] =
		(struct doctor_check){.name = name, .state = state, .text = text, .mend = mend};
}

static const char *const states[] = {"ok", "off", "missing", "broken"};

static void print_checks(const struct doctor *d)
{
	char shown[1024];

	for (size_t i = 0; i < d->nr; i++) {
		const struct doctor_check *c = &d->checks[i];

		printf("%-8s %-18s %s\n", states[c->state], c->name,
			tool_escape(c->text, shown, sizeof(shown)));
		if (c->mend)
			printf("%-8s %-18s mend: %s\n", "", "",
				tool_escape(c->mend, shown, sizeof(shown)));
	}
}

static bool write_json(const struct doctor *d, bool well, struct tool_output *out)
{
	json_t *json = json_object();
	json_t *list = json_array();

	for (size_t i = 0; i < d->nr; i++) {
		const struct doctor_check *c = &d->checks[i];

		json_array_append_new(
			list, json_pack("{s:s, s:s, s:o, s:o}", "name", c->name, "state",
				      states[c->state], "text", tool_json_text(c->text), "mend",
				      c->mend ? tool_json_text(c->mend) : json_null()));
	}
	json_object_set_new(json, "basics_work", json_boolean(well));
	json_object_set_new(json, "checks", list);
	json_object_set_new(json, "host", doctor_host_json(&d->host));
	return tool_json_write(json, out, false);
}

static bool basics_work(const struct doctor *d)
{
	for (size_t i = 0; i < d->nr; i++) {
		if (d->checks[i].state == DOCTOR_BROKEN)
			return false;
	}
	return true;
}

static bool take_option(void *ctx, size_t option, const char *value)
{
	const char **json = ctx;

	(void)option; /* there is one */
	*json = value ? value : "-";
	return true;
}

int cmd_doctor(int argc, char **argv)
{
	struct doctor *d;
	struct tool_output out = {0};
	const char *json = NULL;
	bool written = true;
	int status;
	int first = tool_options(&usage, argc, argv, take_option, &json, &status);

	if (first < 0)
		return status;
	if (first != argc) {
		tool_error("doctor: '%s' is too much (see guestmem doctor --help)", argv[first]);
		return EXIT_USAGE;
	}
	if (json && !tool_output_open(&out, json, false))
		return EXIT_FAILED;
	d = tool_alloc(1, sizeof(*d));
	d->host.size = sizeof(d->host);
	gm_host_probe(&d->host, NULL);
	doctor_examine(d);
	status = basics_work(d) ? EXIT_OK : EXIT_FAILED;
	if (json)
		written = write_json(d, status == EXIT_OK, &out);
	else
		print_checks(d);
	if (!tool_output_close(&out) || !written)
		status = EXIT_FAILED;
	for (size_t i = 0; i < d->nr; i++) {
		free(d->checks[i].text);
		free(d->checks[i].mend);
	}
	free(d->checks);
	free(d);
	return status;
}
