/* SPDX-License-Identifier: BSD-3-Clause */
/* inspect.c - "guestmem inspect": what backs the guest memory of any process. */
#include "inspect.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <langinfo.h>

static const struct tool_option options[] = {
	{"range", 'r', "A-B", "look at these addresses (hexadecimal) instead; also A+SIZE"},
	{"all", 'a', NULL, "look at all mappings of the process"},
	{"quick", 'q', NULL,
		"do not look at single pages nor smaps: multi-size huge pages\n"
		"count as base pages, sharing is not known"},
	{"ascii", 0, NULL, "draw the map with ASCII characters"},
	{"heatmap", 0, "FILE", "draw a picture: FILE ends in .png or .svg"},
	{"watch", 'w', "[SECONDS]", "again and again, every second by default"},
	{"count", 'n', "N", "with --watch: stop after N times"},
	{"waste", 'W', NULL,
		"why it is not in huge pages, and which pages hold only zeros:\n"
		"what is present is read"},
	{"duplicates", 'D', "[N]",
		"which pages hold the same bytes; of contents one of N is\n"
		"followed (default: all)"},
	{"working-set", 0, NULL, "say what can be known of it from outside"},
	{"json", 'j', "[FILE]", "write JSON, to standard output or FILE, instead of text"},
	{NULL, 0, NULL, NULL},
};

enum {
	OPT_RANGE,
	OPT_ALL,
	OPT_QUICK,
	OPT_ASCII,
	OPT_HEATMAP,
	OPT_WATCH,
	OPT_COUNT,
	OPT_WASTE,
	OPT_DUPLICATES,
	OPT_WORKING_SET,
	OPT_JSON
};

/* A PID. */
static bool is_operand(const char *word)
{
	return *word && strspn(word, "0123456789") == strlen(word);
}

static const struct tool_usage usage = {
	.command = "inspect",
	.operands = "[OPTION]... PID",
	.about = "Shows where and with which sizes of pages the guest memory of a process is "
		 "present.\n"
		 "The process is not stopped. QEMU, Firecracker, cloud-hypervisor, crosvm and "
		 "users of\n"
		 "guestmem are recognised; of others the largest mappings are shown.",
	.options = options,
	.is_operand = is_operand,
};

#define RANGE_FORM "is not like 7f0000000000-7f0040000000 or 7f0000000000+1G"
#define RANGE_2_64 "reaches 2^64, where no process has memory"

/* What is wrong with the address, or NULL. */
static const char *parse_address(const char *text, uint64_t *ret, char **end)
{
	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		text += 2;
	if (!*text || !strchr("0123456789abcdefABCDEF", *text))
		return RANGE_FORM;
	errno = 0;
	*ret = strtoull(text, end, 16);
	return errno ? RANGE_2_64 : NULL;
}

/* The same for the part behind the first address. */
static const char *parse_len(const char *text, uint64_t start, uint64_t *ret)
{
	const char *wrong;
	uint64_t end;
	char *at;

	if (*text == '+') {
		/* The library takes no range that reaches 2^64. */
		if (!tool_parse_size(text + 1, ret))
			return RANGE_FORM;
		if (__builtin_add_overflow(start, *ret, &end))
			return RANGE_2_64;
		return *ret ? NULL : "is empty";
	}
	if (*text != '-')
		return RANGE_FORM;
	wrong = parse_address(text + 1, &end, &at);
	if (wrong)
		return wrong;
	if (*at)
		return RANGE_FORM;
	*ret = end - start;
	return end > start ? NULL : "ends before it has begun";
}

static bool parse_range(const char *value, struct inspect_opts *o)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	const char *wrong;
	char *at;

	o->has_range = true;
	wrong = parse_address(value, &o->range_start, &at);
	if (!wrong)
		wrong = parse_len(at, o->range_start, &o->range_len);
	if (!wrong && (o->range_start | o->range_len) % page)
		wrong = "does not consist of whole pages";
	return wrong ? tool_bad_value("range", value, wrong) : true;
}

static bool take_option(void *ctx, size_t option, const char *value)
{
	struct inspect_opts *o = ctx;

	switch (option) {
	case OPT_RANGE:
		return parse_range(value, o);
	case OPT_ALL:
		o->all = true;
		break;
	case OPT_QUICK:
		o->quick = true;
		break;
	case OPT_ASCII:
		o->ascii = true;
		break;
	case OPT_HEATMAP:
		if (!heatmap_is_file_name(value))
			return tool_bad_value("heatmap", value, "does not end in .png or .svg");
		o->heatmap = value;
		break;
	case OPT_WATCH:
		o->watch = true;
		if (value && !tool_parse_seconds(value, 0.01, 86400, &o->seconds))
			return tool_bad_value(
				"watch", value, "is not a time of 0.01 to 86400 seconds");
		break;
	case OPT_COUNT:
		if (!tool_parse_number(value, UINT32_MAX, &o->count) || o->count == 0)
			return tool_bad_value("count", value, "is not a number from 1");
		break;
	case OPT_WASTE:
		o->waste = true;
		break;
	case OPT_DUPLICATES:
		o->duplicates = 1;
		if (value &&
			(!tool_parse_number(value, 65536, &o->duplicates) || o->duplicates == 0))
			return tool_bad_value(
				"duplicates", value, "is not a number from 1 to 65536");
		break;
	case OPT_WORKING_SET:
		o->working_set = true;
		break;
	case OPT_JSON:
		o->json = value ? value : "-";
		break;
	default:
		break;
	}
	return true;
}

static int on_extent(void *arg, const struct gm_extent *e)
{
	struct inspect_piece *p = arg;
	enum heat_kind kind;

	if (e->state == GM_EXTENT_ZERO)
		kind = HEAT_ZERO;
	else if (e->state == GM_EXTENT_SWAPPED)
		kind = HEAT_SWAPPED;
	else if (e->flags & GM_EXTENT_HUGE)
		kind = HEAT_HUGE;
	else
		kind = e->page_log2 > tool_log2((uint64_t)sysconf(_SC_PAGESIZE)) ? HEAT_MULTI
										 : HEAT_BASE;
	heatmap_add(p->map, e->start - p->mapping.start, e->len, kind);
	return 0;
}

static bool same_file(const struct stat *st, const struct gm_mapping *m)
{
	return st->st_ino == m->inode && major(st->st_dev) == m->dev_major &&
	       minor(st->st_dev) == m->dev_minor;
}

/* What the file behind a mapping has allocated, by its own account. */
static uint64_t allocated_of(pid_t pid, const struct gm_mapping *m)
{
	char path[PATH_MAX];
	struct dirent *entry;
	struct stat st;
	uint64_t bytes = UINT64_MAX;
	DIR *dir;

	if (!(m->flags & GM_MAPPING_FILE))
		return bytes;
	snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", (int)pid,
		(unsigned long long)m->start, (unsigned long long)(m->start + m->len));
	if (stat(path, &st) == 0 && same_file(&st, m))
		return (uint64_t)st.st_blocks * 512;
	/* That needs privilege (or a whole mapping); the process may still hold the fd. */
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	while (dir && bytes == UINT64_MAX && (entry = readdir(dir))) {
		if (fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && same_file(&st, m))
			bytes = (uint64_t)st.st_blocks * 512;
	}
	if (dir)
		closedir(dir);
	return bytes;
}

static void add_up(struct gm_usage *sum, const struct gm_usage *u)
{
	sum->sources |= u->sources;
	sum->unseen |= u->unseen;
	sum->present += u->present;
	sum->zero += u->zero;
	sum->swapped += u->swapped;
	sum->shared += u->shared;
	sum->ksm += u->ksm;
	sum->split += u->split;
	sum->extents += u->extents;
	for (size_t i = 0; i <= GM_USAGE_LOG2_MAX; i++)
		sum->by_log2[i] += u->by_log2[i];
}

/* 0 or a negative errno value. */
static int measure(struct gm_residency *res, struct inspect_result *r)
{
	uint32_t flags = r->opts->quick ? 0 : GM_RESIDENCY_FOLIOS | GM_RESIDENCY_SHARED;

	/* The list of mappings came from there. */
	r->total.sources = r->opts->quick ? 0 : GM_SOURCE_SMAPS;
	for (size_t i = 0; i < r->nr; i++) {
		struct inspect_piece *p = &r->pieces[i];
		int rc;

		p->map = heatmap_new(
			p->mapping.start, p->mapping.len, UINT64_C(1) << r->base_log2, 4096);
		p->usage.size = sizeof(p->usage);
		rc = gm_residency_extents(res, p->mapping.start, p->mapping.len, flags, on_extent,
			p, &p->usage, NULL);
		if (rc < 0)
			return rc;
		rc = inspect_waste(res, r->opts, p);
		if (rc)
			return rc == -ESRCH ? rc : -ECANCELED;
		p->allocated = allocated_of(r->opts->pid, &p->mapping);
		add_up(&r->total, &p->usage);
	}
	return 0;
}

static void free_result(struct inspect_result *r)
{
	for (size_t i = 0; i < r->nr; i++)
		heatmap_free(r->pieces[i].map);
	free(r->pieces);
}

static int complain(const struct inspect_opts *o, int rc)
{
	if (rc == -EFAULT)
		tool_error("--range: process %d has no mapping there", (int)o->pid);
	else if (rc == -ESRCH)
		tool_error(
			"process %d: it does not exist, has ended, or has no memory", (int)o->pid);
	else
		tool_error("process %d: %s", (int)o->pid, strerror(-rc));
	return rc;
}

/* While it is watched each picture takes the place of the one before. */
static bool draw(const struct inspect_result *r, struct tool_output *picture)
{
	if (!inspect_draw(r, picture))
		return false;
	return !r->opts->watch ||
	       (tool_output_close(picture) && tool_output_open(picture, r->opts->heatmap, false));
}

/*
 * Looks once and shows it. 0, or a negative errno value after a message. @again: it was there
 * before, so that its end is none.
 */
static int inspect_once(const struct inspect_opts *o, struct gm_residency *res,
	struct tool_output *json, struct tool_output *picture, struct inspect_before *before,
	bool again)
{
	struct inspect_result r = {
		.opts = o,
		.process = {.size = sizeof(r.process)},
		.base_log2 = tool_log2((uint64_t)sysconf(_SC_PAGESIZE)),
		.before = again ? before : NULL,
	};
	bool well = true;
	int rc;

	r.pmd_log2 = 2 * r.base_log2 - 3;
	rc = gm_residency_process(res, &r.process, NULL);
	if (rc == 0)
		rc = inspect_find(res, &r);
	if (rc == 0)
		rc = measure(res, &r);
	if (rc == -ESRCH && again) {
		tool_note("process %d has ended", (int)o->pid);
	} else if (rc == 0) {
		if (json->path)
			well = inspect_json(&r, json);
		else
			inspect_print(&r);
		if (picture->path)
			well = draw(&r, picture) && well;
		rc = well && (json->path || tool_flush()) ? 0 : -EIO;
	} else if (rc != -ECANCELED) {
		complain(o, rc);
	}
	*before = (struct inspect_before){
		r.process.minor_faults, r.process.major_faults, r.total.present};
	free_result(&r);
	return rc;
}

static void pause_for(double seconds)
{
	struct timespec ts = {
		.tv_sec = (time_t)seconds,
		.tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9),
	};

	nanosleep(&ts, NULL);
}

static int inspect_all(const struct inspect_opts *o, struct gm_residency *res,
	struct tool_output *json, struct tool_output *picture)
{
	struct inspect_before before = {0};
	bool screen = o->watch && !json->path && isatty(STDOUT_FILENO);
	int rc = 0;

	for (uint64_t i = 0; rc == 0; i++) {
		if (screen)
			fputs("\033[H\033[J", stdout);
		else if (i > 0 && !json->path)
			putchar('\n');
		rc = inspect_once(o, res, json, picture, &before, i > 0);
		if (rc == -ESRCH && i > 0)
			return EXIT_OK;
		if (!o->watch || (o->count && i + 1 == o->count))
			break;
		if (rc == 0)
			pause_for(o->seconds);
	}
	return rc ? EXIT_FAILED : EXIT_OK;
}

static int run(const struct inspect_opts *o)
{
	struct tool_output json = {0};
	struct tool_output picture = {0};
	struct gm_residency *res = NULL;
	struct gm_error err;
	int status = EXIT_FAILED;

	if (gm_residency_open(o->pid, &res, &err) < 0)
		complain(o, err.code);
	else if ((!o->json || tool_output_open(&json, o->json, o->watch)) &&
		 (!o->heatmap || tool_output_open(&picture, o->heatmap, false)))
		status = inspect_all(o, res, &json, &picture);
	if (!tool_output_close(&json) || !tool_output_close(&picture))
		status = EXIT_FAILED;
	gm_residency_close(res);
	return status;
}

int cmd_inspect(int argc, char **argv)
{
	struct inspect_opts o = {.seconds = 1};
	uint64_t pid;
	int status;
	int first = tool_options(&usage, argc, argv, take_option, &o, &status);

	if (first < 0)
		return status;
	if (argc == first) {
		tool_error("inspect: no PID (see guestmem inspect --help)");
		return EXIT_USAGE;
	}
	if (argc - first > 1) {
		tool_error(
			"inspect: more than one PID: '%s', '%s' (a number as a value goes behind "
			"'=', as in --watch=2)",
			argv[first], argv[first + 1]);
		return EXIT_USAGE;
	}
	if (!tool_parse_number(argv[first], INT_MAX, &pid) || pid == 0) {
		tool_error("%s: this is no PID", argv[first]);
		return EXIT_USAGE;
	}
	if (o.count && !o.watch) {
		tool_error("--count: has no meaning without --watch");
		return EXIT_USAGE;
	}
	if (o.json && o.heatmap && tool_outputs_clash(o.json, o.heatmap)) {
		tool_error("inspect: --json and --heatmap: both go to '%s'", o.heatmap);
		return EXIT_USAGE;
	}
	if (o.heatmap && !heatmap_available())
		return EXIT_FAILED;
	o.pid = (pid_t)pid;
	setlocale(LC_CTYPE, "");
	if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
		o.ascii = true;
	return run(&o);
}
