/* SPDX-License-Identifier: BSD-3-Clause */
/* exec.c - "guestmem exec": makes guest memory by a policy, lends it to a command, reports what
 * became of it. */
#include "exec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static const struct tool_option options[] = {
	{"size", 's', "SIZE", "how much memory: bytes, or with K, M, G, T (required)"},
	{"page-size", 'p', "POLICY", "base, thp, 2M or 1G; without it the host's own ways apply"},
	{"numa", 0, "MODE:NODES",
		"bind, preferred, preferred-many, interleave or\n"
		"weighted-interleave, and nodes such as 0 or 0-1,3"},
	{"populate", 0, NULL, "fill it with pages before the command starts"},
	{"name", 0, "NAME", "shown in /proc/PID/maps (default: guestmem-exec)"},
	{"json", 'j', "FILE", "write the report as JSON as well; - is standard output"},
	{"heatmap", 0, "FILE", "draw what was present: FILE ends in .png or .svg"},
	{"interval", 'i', "SECONDS", "time between samples, 0.01 to 3600 (default: 0.1)"},
	{"require", 0, NULL, "fail (status 1) if the page size was not achieved"},
	{"quiet", 'q', NULL, "no report on standard error"},
	{NULL, 0, NULL, NULL},
};

enum {
	OPT_SIZE,
	OPT_PAGE_SIZE,
	OPT_NUMA,
	OPT_POPULATE,
	OPT_NAME,
	OPT_JSON,
	OPT_HEATMAP,
	OPT_INTERVAL,
	OPT_REQUIRE,
	OPT_QUIET,
};

static const struct tool_usage usage = {
	.command = "exec",
	.operands = "--size SIZE [OPTION]... [--] COMMAND [ARG]...",
	.about = "Makes guest memory and runs COMMAND with {mem} in its arguments replaced by a "
		 "path\n"
		 "under which it can open and map it. The exit status is that of the command.",
	.options = options,
	.stop_at_operand = true,
};

static const char *const policy_names[] = {"default", "base", "thp", "2M", "1G"};

const char *exec_policy_name(enum exec_policy policy)
{
	return policy_names[policy];
}

static uint64_t policy_page(const struct exec_opts *o, const struct gm_host *host)
{
	if (o->policy == EXEC_2M)
		return UINT64_C(1) << 21;
	if (o->policy == EXEC_1G)
		return UINT64_C(1) << 30;
	return host->base_page;
}

static bool parse_policy(const char *value, enum exec_policy *ret)
{
	for (int i = EXEC_BASE; i <= EXEC_1G; i++) {
		if (strcmp(value, policy_names[i]) == 0) {
			*ret = (enum exec_policy)i;
			return true;
		}
	}
	return tool_bad_value("page-size", value, "is none of base, thp, 2M, 1G");
}

static bool parse_nodes(const char *text, struct gm_numa *numa)
{
	while (*text) {
		char *end;
		unsigned long first;
		unsigned long last;

		if (*text < '0' || *text > '9')
			return false;
		first = strtoul(text, &end, 10);
		last = first;
		if (*end == '-') {
			if (end[1] < '0' || end[1] > '9')
				return false;
			last = strtoul(end + 1, &end, 10);
		}
		if (last < first || last >= 64UL * GM_NUMA_WORDS)
			return false;
		for (; first <= last; first++)
			numa->nodes[first / 64] |= UINT64_C(1) << (first % 64);
		if (*end && *end != ',')
			return false;
		if (*end == ',' && !end[1])
			return false;
		text = *end ? end + 1 : end;
	}
	return true;
}

static bool parse_numa(const char *value, struct exec_opts *o)
{
	static const struct {
		const char *name;
		uint32_t mode;
	} modes[] = {
		{"bind", GM_NUMA_BIND},
		{"preferred", GM_NUMA_PREFERRED},
		{"preferred-many", GM_NUMA_PREFERRED_MANY},
		{"interleave", GM_NUMA_INTERLEAVE},
		{"weighted-interleave", GM_NUMA_WEIGHTED_INTERLEAVE},
	};
	size_t len = strcspn(value, ":");

	o->numa_text = value;
	o->numa = (struct gm_numa){0};
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strlen(modes[i].name) == len && strncmp(modes[i].name, value, len) == 0)
			o->numa.mode = modes[i].mode;
	}
	if (o->numa.mode == GM_NUMA_DEFAULT || value[len] != ':' || !value[len + 1] ||
		!parse_nodes(value + len + 1, &o->numa))
		return tool_bad_value("numa", value, "is not like bind:0 or interleave:0-1");
	return true;
}

static bool take_option(void *ctx, size_t option, const char *value)
{
	struct exec_opts *o = ctx;

	switch (option) {
	case OPT_SIZE:
		if (!tool_parse_size(value, &o->size) || o->size == 0)
			return tool_bad_value("size", value, "is not a size such as 512M");
		break;
	case OPT_PAGE_SIZE:
		return parse_policy(value, &o->policy);
	case OPT_NUMA:
		return parse_numa(value, o);
	case OPT_POPULATE:
		o->populate = true;
		break;
	case OPT_NAME:
		if (!value[0] || strlen(value) > 31)
			return tool_bad_value("name", value, "is not 1 to 31 bytes long");
		o->name = value;
		break;
	case OPT_JSON:
		o->json = value;
		break;
	case OPT_HEATMAP:
		if (!heatmap_is_file_name(value))
			return tool_bad_value("heatmap", value, "does not end in .png or .svg");
		o->heatmap = value;
		break;
	case OPT_INTERVAL:
		if (!tool_parse_seconds(value, 0.01, 3600, &o->interval))
			return tool_bad_value(
				"interval", value, "is not a time of 0.01 to 3600 seconds");
		break;
	case OPT_REQUIRE:
		o->require = true;
		break;
	case OPT_QUIET:
		o->quiet = true;
		break;
	default:
		break;
	}
	return true;
}

static bool check_options(const struct exec_opts *o, const struct gm_host *host, int nr_words)
{
	uint64_t page = policy_page(o, host);
	char name[TOOL_UNIT_CAP];

	if (o->size == 0) {
		tool_error("exec: --size is missing (see guestmem exec --help)");
		return false;
	}
	if (nr_words == 0) {
		tool_error("exec: no command (see guestmem exec --help)");
		return false;
	}
	if (o->policy == EXEC_THP && host->thp_page != GM_HOST_UNKNOWN)
		page = host->thp_page;
	if (o->size % page != 0) {
		tool_error("--size: %llu is not a multiple of the page size %s",
			(unsigned long long)o->size,
			tool_page_name(63 - (uint32_t)__builtin_clzll(page), name));
		return false;
	}
	return true;
}

/* The word for PMD-sized pages of shared memory that counts; *ret_knob is the file that has it. */
static const char *shmem_setting(const struct gm_host *host, const char **ret_knob)
{
	static char knob[96];

	*ret_knob = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
	for (uint32_t i = 0; i < host->nr_thp; i++) {
		const struct gm_host_thp *thp = &host->thp[i];

		if (thp->page_size != host->thp_page || !thp->shmem_enabled[0] ||
			strcmp(thp->shmem_enabled, "inherit") == 0)
			continue;
		/* deny and force stand above the sizes. */
		if (strcmp(host->shmem_enabled, "deny") == 0 ||
			strcmp(host->shmem_enabled, "force") == 0)
			break;
		snprintf(knob, sizeof(knob),
			"/sys/kernel/mm/transparent_hugepage/hugepages-%llukB/shmem_enabled",
			(unsigned long long)(thp->page_size / 1024));
		*ret_knob = knob;
		return thp->shmem_enabled;
	}
	return host->shmem_enabled;
}

static bool host_allows(const struct exec_opts *o, const struct gm_host *host)
{
	const char *knob;
	const char *word;

	if (o->policy != EXEC_THP)
		return true;
	word = shmem_setting(host, &knob);
	if (!word[0]) {
		tool_error("--page-size thp: this kernel has no transparent huge pages for shared "
			   "memory");
		return false;
	}
	if (strcmp(word, "never") != 0 && strcmp(word, "deny") != 0)
		return true;
	tool_error("--page-size thp: the host says '%s' for shared memory: echo advise > %s", word,
		knob);
	return false;
}

/*
 * Base pages: the memory's user may advise huge pages (QEMU does), so it is forbidden for us and,
 * inherited over fork and exec, for the command. For THP an inherited prohibition is lifted.
 */
static bool set_thp_switch(const struct exec_opts *o)
{
	if (o->policy == EXEC_DEFAULT)
		return true;
	if (prctl(PR_SET_THP_DISABLE, o->policy == EXEC_BASE, 0, 0, 0) == 0)
		return true;
	tool_error(
		"--page-size %s: PR_SET_THP_DISABLE: %s", policy_names[o->policy], strerror(errno));
	return false;
}

/* The memory's fd, above the standard ones and close-on-exec; -1 after a message. */
static int make_memory(const struct exec_opts *o)
{
	static const struct gm_page_choice choices[] = {
		[EXEC_DEFAULT] = {GM_PAGE_NONE, 0},
		[EXEC_BASE] = {GM_PAGE_BASE, 0},
		[EXEC_THP] = {GM_PAGE_THP, 0},
		[EXEC_2M] = {GM_PAGE_HUGETLB, 21},
		[EXEC_1G] = {GM_PAGE_HUGETLB, 30},
	};
	struct gm_block_opts opts = {
		.size = sizeof(opts),
		.len = o->size,
		.backing = GM_BACKING_MEMFD,
		.flags = o->populate ? GM_BLOCK_POPULATE : 0,
		.pages = {choices[o->policy]},
		.fd = -1,
		.name = o->name,
		.numa = o->numa,
	};
	struct gm_block_info info = {.size = sizeof(info)};
	struct gm_block *block;
	struct gm_error err;
	int fd;

	if (gm_block_create(&opts, &block, &err) < 0) {
		tool_error("memory of %llu bytes: %s", (unsigned long long)o->size, err.text);
		return -1;
	}
	/* The fd alone keeps pages, policy and reservation; our own mapping of it would only be in
	 * the way. */
	gm_block_info(block, &info);
	fd = fcntl(info.fd, F_DUPFD_CLOEXEC, 10);
	if (fd < 0)
		tool_error("memory: %s", strerror(errno));
	gm_block_put(block);
	return fd;
}

static char *replace_mem(const char *word, const char *path, bool *found)
{
	char *done = tool_strdup("");
	const char *at;

	while ((at = strstr(word, "{mem}"))) {
		char *more = tool_printf("%s%.*s%s", done, (int)(at - word), word, path);

		free(done);
		done = more;
		word = at + strlen("{mem}");
		*found = true;
	}
	at = done;
	done = tool_printf("%s%s", at, word);
	free((char *)at);
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
	bool found = false;

	for (int i = 0; i < nr; i++)
		command[i] = replace_mem(words[i], path, &found);
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

	exec_watch_end(result->watch);
	exec_judge(result);
	if (!o->quiet)
		exec_report_text(result);
	if (json->file)
		well = exec_report_json(result, json);
	if (picture->file)
		well = exec_report_heatmap(result, picture) && well;
	well = tool_output_close(json) && well;
	well = tool_output_close(picture) && well;
	if (status == 0 && !well)
		status = EXIT_FAILED;
	if (status == 0 && o->require && !result->achieved) {
		tool_error("--require: page size %s was asked for, %s was got",
			policy_names[o->policy], result->effective);
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

	if ((!o->json || tool_output_open(&json, o->json)) &&
		(!o->heatmap || tool_output_open(&picture, o->heatmap)))
		fd = make_memory(o);
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
	struct exec_opts o = {.interval = 0.1, .name = "guestmem-exec"};
	struct gm_host host = {.size = sizeof(host)};
	int status;
	int first = tool_options(&usage, argc, argv, take_option, &o, &status);

	if (first < 0)
		return status;
	gm_host_probe(&host, NULL);
	if (!check_options(&o, &host, argc - first) || !has_mem(argv + first))
		return EXIT_USAGE;
	if (o.heatmap && !heatmap_available())
		return EXIT_FAILED;
	if (!host_allows(&o, &host) || !set_thp_switch(&o))
		return EXIT_FAILED;
	return run_with(&o, &host, argv + first, argc - first);
}
