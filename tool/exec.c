/* SPDX-License-Identifier: BSD-3-Clause */
/* exec.c - "guestmem exec": lends guest memory to a command and reports what became of it. */
#include "exec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A copy of @word with each {mem} replaced. */
static char *replace_mem(const char *word, const char *path)
{
	const char *at;
	char *done = NULL;
	size_t len;
	FILE *out = open_memstream(&done, &len);

	while (out && (at = strstr(word, "{mem}"))) {
		fprintf(out, "%.*s%s", (int)(at - word), word, path);
		word = at + strlen("{mem}");
	}
	if (!out || fputs(word, out) == EOF || fclose(out)) {
		tool_error("out of memory");
		exit(EXIT_FAILED);
	}
	return done;
}

static bool has_mem(char **words)
{
	for (; *words; words++) {
		if (strstr(*words, "{mem}"))
			return true;
	}
	tool_error("exec: no argument has {mem}, so the command could not find its memory");
	return false;
}

static char **make_command(char **words, int nr, int fd)
{
	char **command = tool_alloc((size_t)nr + 1, sizeof(*command));
	char *path = tool_printf("/proc/self/fd/%d", fd);

	for (int i = 0; i < nr; i++)
		command[i] = replace_mem(words[i], path);
	free(path);
	return command;
}

static void free_command(char **command)
{
	for (char **word = command; word && *word; word++)
		free(*word);
	free(command);
}

/* Runs the command to its end, sampling. */
static void watch_child(
	const struct exec_opts *o, struct exec_child *child, struct exec_watch *watch)
{
	/* Short commands are sampled more often in the beginning. */
	double step = o->interval < 0.01 ? o->interval : 0.01;
	double next = watch->started + step;

	for (;;) {
		double begun;

		exec_child_wait(child, next);
		if (child->ended)
			return;
		begun = tool_now();
		exec_watch_sample(watch, getpid());
		step = step * 2 < o->interval ? step * 2 : o->interval;
		next += step;
		/* Where a look takes long, it still must not fill more than half of the time. */
		if (next < tool_now() + (tool_now() - begun))
			next = tool_now() + (tool_now() - begun);
	}
}

/* 0, or the errno value of exec(). */
static int run_child(const struct exec_opts *o, struct exec_child *child, struct exec_watch *watch,
	struct exec_result *result)
{
	struct exec_faults *faults = exec_faults_start(child->pid, watch);
	int error;

	watch->started = tool_now();
	error = exec_child_go(child);
	if (error == 0)
		watch_child(o, child, watch);
	result->wall = tool_now() - watch->started;
	exec_faults_finish(faults, &result->faults);
	return error;
}

static int report(struct exec_result *result, struct tool_output *json, struct tool_output *picture)
{
	const struct exec_opts *o = result->opts;
	int status = exec_child_exit_status(result->child);
	bool well = true;

	exec_watch_end(result->watch, getpid());
	exec_judge(result);
	if (!o->quiet)
		exec_report_text(result);
	if (json->path)
		well = exec_report_json(result, json);
	if (picture->path)
		well = exec_report_heatmap(result, picture) && well;
	well = tool_output_close(json) && well;
	well = tool_output_close(picture) && well;
	if (status == 0 && !well)
		status = EXIT_FAILED;
	if (status == 0 && o->require && !result->achieved) {
		tool_error("--require: page size %s was asked for, %s was got",
			exec_policy_name(o->policy), result->effective);
		status = EXIT_FAILED;
	}
	return status;
}

static int run_on(const struct exec_opts *o, const struct gm_host *host, int fd,
	struct tool_output *json, struct tool_output *picture)
{
	struct exec_child child;
	struct exec_watch watch;
	struct exec_result result = {.opts = o, .child = &child, .watch = &watch, .host = host};
	int status = EXIT_FAILED;
	int error;

	exec_watch_init(&watch, fd, host);
	watch.need_map = o->heatmap != NULL;
	if (exec_child_fork(&child, o->command, fd)) {
		error = run_child(o, &child, &watch, &result);
		if (error) {
			tool_error("%s: %s", o->command[0], strerror(error));
			status = error == ENOENT || error == ENOTDIR ? 127 : 126;
		} else {
			status = report(&result, json, picture);
		}
	}
	exec_child_fini(&child);
	exec_watch_fini(&watch);
	exec_result_fini(&result);
	return status;
}

static int run_with(struct exec_opts *o, const struct gm_host *host, char **words, int nr)
{
	struct tool_output json = {0};
	struct tool_output picture = {0};
	int status = EXIT_FAILED;
	int fd = -1;

	if ((!o->json || tool_output_open(&json, o->json, false)) &&
		(!o->heatmap || tool_output_open(&picture, o->heatmap, false)))
		fd = exec_make_memory(o);
	if (fd >= 0) {
		o->command = make_command(words, nr, fd);
		status = run_on(o, host, fd, &json, &picture);
		free_command(o->command);
		close(fd);
	}
	tool_output_close(&json);
	tool_output_close(&picture);
	return status;
}

int cmd_exec(int argc, char **argv)
{
	struct exec_opts o;
	struct gm_host host = {.size = sizeof(host)};
	int status;
	int first = exec_options(argc, argv, &o, &status);

	if (first < 0)
		return status;
	gm_host_probe(&host, NULL);
	if (!exec_options_fit(&o, &host, argc - first) || !has_mem(argv + first))
		return EXIT_USAGE;
	if (o.heatmap && !heatmap_available())
		return EXIT_FAILED;
	if (!exec_host_allows(&o, &host) || !exec_set_thp_switch(&o))
		return EXIT_FAILED;
	return run_with(&o, &host, argv + first, argc - first);
}
