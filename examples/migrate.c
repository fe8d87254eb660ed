/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate.c - a guest goes from one process to another in rounds, while it runs, and comes back on demand. "migrate"
 *
 * The guest is a thread here: it counts in the first word of each page, and looks whether the page is as it left it.
 * Whoever embeds this in a monitor has vCPUs in its place, and what differs then is said where it does.
 */
#include <guestmem/guestmem.h>
#include <guestmem/migrate_in.h>
#include <guestmem/migrate_out.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE UINT64_C(4096)
#define MEMORY (UINT64_C(4) << 20)

/* What a monitor writes of its vCPUs and devices: here, where the thread was. */
struct state {
	uint64_t round;
	uint64_t page;
	uint64_t wrong;
};

/* Where a guest is waited for. */
struct place {
	struct sockaddr_un name;
	socklen_t len;
	int listener;
};

struct guest {
	struct gm_space *space;
	struct gm_reader *reader;
	struct state state;
	pthread_t thread;
	int stop;
	struct gm_migrate_out *out;
	struct gm_migrate_in *in;
	const struct place *to;
	uint32_t is; /* enum gm_migrate_state */
};

static int fail(const char *what)
{
	fprintf(stderr, "migrate: %s\n", what);
	return 1;
}

/* ---- the guest ---- */

static void *run(void *arg)
{
	struct guest *g = arg;
	struct state *s = &g->state;

	while (!__atomic_load_n(&g->stop, __ATOMIC_ACQUIRE)) {
		/* In post-copy this waits until the page has come; so does a vCPU, by itself. */
		const struct gm_view *view = gm_reader_enter(g->reader);
		uint64_t was = 0;

		if (gm_read_le64(view, s->page * PAGE, &was) || was != s->round ||
			gm_write_le64(view, s->page * PAGE, s->round + 1))
			s->wrong++;
		gm_reader_leave(g->reader);
		if (++s->page == MEMORY / PAGE) {
			s->page = 0;
			__atomic_fetch_add(&s->round, 1, __ATOMIC_RELAXED);
		}
		if (s->page % 32 == 0)
			usleep(1000);
	}
	return NULL;
}

static int start(struct guest *g)
{
	g->stop = 0;
	return -pthread_create(&g->thread, NULL, run, g);
}

static void stop(struct guest *g)
{
	__atomic_store_n(&g->stop, 1, __ATOMIC_RELEASE);
	pthread_join(g->thread, NULL);
}

/* Once more through all of its memory. */
static int let_run(const struct guest *g)
{
	uint64_t until = __atomic_load_n(&g->state.round, __ATOMIC_RELAXED) + 2;

	while (__atomic_load_n(&g->state.round, __ATOMIC_RELAXED) < until)
		usleep(1000);
	return 0;
}

static int make_memory(struct guest *g)
{
	struct gm_block_opts backing = {.size = sizeof(backing)};
	struct gm_region_desc ram = {.size = sizeof(ram), .len = MEMORY, .backing = &backing};
	struct gm_error err;
	int rc = gm_space_build(NULL, &ram, 1, &g->space, &err);

	return rc ? rc : gm_reader_create(g->space, "guest", &g->reader, &err);
}

/* ---- the source ---- */

/* Any connected stream socket will do; the library makes it non-blocking, and closes it. */
static int on_connect(void *ctx, uint32_t connection, uint32_t index, int *ret_fd)
{
	const struct place *to = ((struct guest *)ctx)->to;

	(void)connection;
	(void)index;
	*ret_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(*ret_fd, (const struct sockaddr *)&to->name, to->len) == 0)
		return 0;
	close(*ret_fd);
	return -ECONNREFUSED;
}

/*
 * A monitor has its vCPUs leave the guest and its devices stand still, and answers from any thread when that is so. It
 * also gives ops.harvest, which asks for what vCPUs have written: gm_kvm_harvest() after gm_kvm_track(). This guest
 * writes through the library, which marks the log by itself.
 */
static void on_pause(void *ctx)
{
	struct guest *g = ctx;

	stop(g);
	gm_migrate_out_paused(g->out, 0);
}

static void on_save(void *ctx)
{
	const struct guest *g = ctx;

	gm_migrate_out_state(g->out, &g->state, sizeof(g->state));
}

/* Nothing came of it: whatever failed, it goes on here. */
static void on_run_here(void *ctx)
{
	if (start(ctx))
		fail("the guest cannot go on");
}

static void on_told(void *ctx, const struct gm_migrate_event *event)
{
	struct guest *g = ctx;

	g->is = event->state;
	/* GM_MIGRATE_TOLD_LOST: a monitor calls gm_migrate_out_resume() when there is a way again. */
	if (event->tell == GM_MIGRATE_TOLD_FAILED || event->tell == GM_MIGRATE_TOLD_LOST)
		fail(event->why);
}

/* Sends the guest away; 0 when all of it is there. A monitor polls gm_migrate_out_fd() in a loop of its own. */
static int send_to(struct guest *g, const struct place *to, uint32_t way)
{
	const struct gm_migrate_out_opts opts = {.size = sizeof(opts), .way = way};
	const struct gm_migrate_out_ops ops = {.size = sizeof(ops),
		.connect = on_connect,
		.pause = on_pause,
		.run = on_run_here,
		.save = on_save,
		.told = on_told,
		.ctx = g};
	struct gm_error err;

	g->to = to;
	g->is = GM_MIGRATE_IS_IDLE;
	if (gm_migrate_out_create(g->space, &opts, &ops, &g->out, &err) ||
		gm_migrate_out_start(g->out, &err))
		return fail(err.text);
	while (g->is < GM_MIGRATE_IS_ENDED)
		gm_migrate_out_step(g->out, -1);
	/* Until here its memory was needed. */
	gm_migrate_out_destroy(g->out);
	return g->is != GM_MIGRATE_IS_ENDED;
}

/* ---- the destination ---- */

/* What the source says is not to be trusted: a monitor compares it with the machine it was configured to be. */
static void on_prepare(void *ctx, const struct gm_migrate_in_region *regions, size_t nr)
{
	struct guest *g = ctx;
	int rc = nr == 1 && regions[0].gpa == 0 && regions[0].len == MEMORY ? 0 : -EINVAL;

	if (!rc)
		rc = make_memory(g);
	gm_migrate_in_prepared(g->in, rc ? NULL : g->space, rc, rc ? "another machine" : NULL);
}

/* Nobody who steps may touch guest memory from here on; loading device state that does is for another thread. */
static void on_load(void *ctx, const void *data, size_t len)
{
	struct guest *g = ctx;
	int rc = len == sizeof(g->state) ? 0 : -EINVAL;

	if (!rc)
		memcpy(&g->state, data, len);
	if (g->state.page >= MEMORY / PAGE)
		rc = -EINVAL;
	gm_migrate_in_loaded(g->in, rc, rc ? "another state" : NULL);
}

static void on_run(void *ctx)
{
	struct guest *g = ctx;

	gm_migrate_in_started(g->in, start(g));
}

/* Takes a guest; 0 when it runs here, and all of its memory is here. */
static int take(struct guest *g, const struct place *at)
{
	const struct gm_migrate_in_ops ops = {.size = sizeof(ops),
		.prepare = on_prepare,
		.load = on_load,
		.run = on_run,
		.told = on_told,
		.ctx = g};
	struct gm_migrate_stats stats = {.size = sizeof(stats)};
	struct pollfd fds[] = {{at->listener, POLLIN, 0}, {-1, POLLIN, 0}};
	struct gm_error err;

	*g = (struct guest){.is = GM_MIGRATE_IS_IDLE};
	if (gm_migrate_in_create(NULL, &ops, &g->in, &err))
		return fail(err.text);
	fds[1].fd = gm_migrate_in_fd(g->in);
	while (g->is < GM_MIGRATE_IS_ENDED) {
		poll(fds, 2, -1);
		/* Whose it is its first bytes say; strangers are let go. */
		if (fds[0].revents)
			gm_migrate_in_connection(g->in, accept(at->listener, NULL, NULL));
		gm_migrate_in_step(g->in, 0);
	}
	gm_migrate_in_stats(g->in, &stats);
	printf("it came: %lu KiB of pages, %lu requests\n", stats.pages >> 10, stats.requests);
	fflush(stdout);
	gm_migrate_in_destroy(g->in);
	return g->is != GM_MIGRATE_IS_ENDED;
}

/* ---- both ---- */

/* A socket whose name is the kernel's choice. */
static bool listen_at(struct place *at)
{
	*at = (struct place){.name = {.sun_family = AF_UNIX}, .len = sizeof(at->name)};
	at->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return at->listener >= 0 &&
	       bind(at->listener, (struct sockaddr *)&at->name, sizeof(sa_family_t)) == 0 &&
	       listen(at->listener, 8) == 0 &&
	       getsockname(at->listener, (struct sockaddr *)&at->name, &at->len) == 0;
}

int main(void)
{
	static struct guest g;
	struct place there;
	struct place back;
	int status = 0;

	if (!listen_at(&there) || !listen_at(&back))
		return fail("no sockets");
	if (fork() == 0)
		return take(&g, &there) || let_run(&g) ||
		       send_to(&g, &back, GM_MIGRATE_OUT_POSTCOPY);
	if (make_memory(&g) || start(&g))
		return fail("no guest");
	let_run(&g);
	if (send_to(&g, &there, GM_MIGRATE_OUT_PRECOPY))
		return 1;
	gm_reader_destroy(g.reader);
	gm_space_destroy(g.space);
	if (take(&g, &back))
		return 1;
	let_run(&g);
	stop(&g);
	if (wait(&status) < 0 || status)
		return fail("the other process failed");
	gm_reader_destroy(g.reader);
	gm_space_destroy(g.space);
	printf("%lu rounds, %lu pages wrong\n", g.state.round, g.state.wrong);
	return g.state.wrong != 0;
}
