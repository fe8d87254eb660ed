/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_kill.c - a guest that is moved between two processes, and what goes wrong meanwhile: an end dies, the
 * line is cut, stands still, goes by single bytes, turns bits round, or brings connections late and once more.
 *
 * Points are made by seed: each kind of trouble in each phase. Whatever comes, the guest never runs twice, no byte is
 * wrong, a page that is lost is named and poisoned, and everything ends by its deadlines.
 */
#include "support.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "core/migrate_wire.h"
#include "killed_migration.h"

#define POINTS ((unsigned long)TROUBLES * PHASES)
#define AT_ONCE 12u
#define PATIENCE_NS (UINT64_C(20000) * MSEC)
#define RESUMES_MAX 8u
#define DOUBTS_MAX 2u

/* ---- plans ---- */

static const char *const trouble_names[TROUBLES] = {
	"none", "kill source", "kill destination", "cut", "stall", "drip", "shuffle", "flip"};
static const char *const phase_names[PHASES] = {
	"opening", "rounds", "pause", "state", "switch", "run", "post-copy", "done"};

static uint32_t one_of(struct rng *rng, const uint32_t *from, uint32_t nr)
{
	return from[rng_below(rng, nr)];
}

/* The messages of a phase. */
static void aim(struct plan *p, struct rng *rng)
{
	static const uint32_t opening[] = {
		TYPE_OPEN, TYPE_OPENED, GM_MIGRATE_LAYOUT, GM_MIGRATE_ACCEPTED};
	static const uint32_t change[] = {GM_MIGRATE_SWITCH, GM_MIGRATE_READY};
	static const uint32_t run[] = {GM_MIGRATE_RUN, GM_MIGRATE_RUNNING};
	static const uint32_t done[] = {GM_MIGRATE_DONE, GM_MIGRATE_DONE_ACK};

	p->trigger = AT_MESSAGE;
	p->where = (enum where)rng_below(rng, 3);
	p->nth = 1;
	switch (p->phase) {
	case OPENING:
		p->type = one_of(rng, opening, 4);
		if (p->type >= TYPE_OPEN)
			p->nth += (uint32_t)rng_below(rng, 1 + p->bulk + p->urgent);
		break;
	case ROUNDS:
	case POSTCOPY:
		p->trigger = AT_BYTE;
		p->bytes = rng_below(rng, 500000);
		break;
	case PAUSE:
		p->trigger = AT_PAUSE;
		break;
	case STATE:
		p->type = GM_MIGRATE_STATE;
		break;
	case SWITCH:
		p->type = one_of(rng, change, 2);
		break;
	case RUN:
		p->type = one_of(rng, run, 2);
		break;
	default:
		p->type = one_of(rng, done, 2);
	}
}

static struct plan make_plan(unsigned long nr, bool huge)
{
	struct plan p = {.seed = test_seed(1000 + nr),
		.trouble = (enum trouble)(nr % TROUBLES),
		.phase = (enum phase)(nr / TROUBLES % PHASES)};
	struct rng rng = {p.seed};

	p.then = rng_below(&rng, 2) ? RESUME : (enum then)rng_below(&rng, THENS);
	p.memory = (enum memory)(rng_below(&rng, 10) / 4);
	if (p.memory == HUGE)
		p.memory = !huge ? PRIVATE : rng_next(&rng) & 1 ? HUGE : HUGE_PRIVATE;
	p.bulk = (uint32_t)rng_below(&rng, 4);
	p.urgent = (uint32_t)rng_below(&rng, 3);
	p.rounds = 1 + (uint32_t)rng_below(&rng, 3);
	p.rate = p.memory >= HUGE ? MIB(16) : MIB(4 + rng_below(&rng, 12));
	p.state_len = 1 + (uint32_t)rng_below(&rng, 200000);
	p.tcp = rng_next(&rng) & 1;
	p.all = rng_next(&rng) & 1;
	p.way = (uint32_t)rng_below(&rng, 3);
	p.way = p.way == 1 ? GM_MIGRATE_OUT_STOP : p.way ? GM_MIGRATE_OUT_POSTCOPY : 0;
	if (p.phase == ROUNDS && p.way == GM_MIGRATE_OUT_POSTCOPY)
		p.way = GM_MIGRATE_OUT_AUTO;
	if (p.phase == POSTCOPY && p.way == GM_MIGRATE_OUT_STOP)
		p.way = GM_MIGRATE_OUT_POSTCOPY;
	aim(&p, &rng);
	return p;
}

/* ---- one point: a process of its own ---- */

struct drive {
	struct killed *k;
	struct rng rng;
	pid_t pids[SIDES];
	int commands[SIDES];
	struct door doors[SIDES]; /* the line's, and the destination's */
	struct proxy *proxy;
	uint32_t lost;    /* times that the source has told so, as far as was acted on */
	uint32_t refused; /* the same of commands */
	uint32_t doubts;
	uint64_t act_at; /* 0: nothing is due */
	bool reclaimed;
	bool given_up;
};

static bool listen_at(struct door *door, bool tcp)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&door->at;

	door->at.ss_family = tcp ? AF_INET : AF_UNIX;
	/* Without a name the kernel gives it one. */
	door->len = sizeof(sa_family_t);
	if (tcp) {
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		door->len = sizeof(*in);
	}
	door->fd = socket(door->at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (door->fd < 0 || bind(door->fd, (struct sockaddr *)&door->at, door->len) ||
		listen(door->fd, 64))
		return false;
	door->len = sizeof(door->at);
	return getsockname(door->fd, (struct sockaddr *)&door->at, &door->len) == 0;
}

static void start_end(struct drive *d, enum side side, const int pairs[SIDES][2])
{
	d->pids[side] = fork();
	if (d->pids[side] < 0)
		_exit(6);
	if (d->pids[side])
		return;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		_exit(6);
	close(pairs[side][0]);
	for (int i = 0; i < 2; i++)
		close(pairs[!side][i]);
	close(d->doors[0].fd);
	if (side == AT_DESTINATION)
		be_destination(d->k, pairs[side][1], d->doors[1].fd);
	close(d->doors[1].fd);
	be_source(d->k, pairs[side][1], &d->doors[0]);
}

static void start_both(struct drive *d)
{
	int pairs[SIDES][2];

	if (!listen_at(&d->doors[0], d->k->plan.tcp) || !listen_at(&d->doors[1], d->k->plan.tcp))
		_exit(6);
	for (int i = 0; i < SIDES; i++) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[i]))
			_exit(6);
		d->commands[i] = pairs[i][0];
	}
	start_end(d, AT_DESTINATION, pairs);
	start_end(d, AT_SOURCE, pairs);
	for (int i = 0; i < SIDES; i++)
		close(pairs[i][1]);
	close(d->doors[1].fd);
	d->proxy = proxy_create(d->k, &d->doors[0], &d->doors[1]);
}

static void order(struct drive *d, enum side side, char what)
{
	if (what == DO_RESUME)
		d->k->resumes++;
	(void)!send(d->commands[side], &what, 1, MSG_NOSIGNAL);
}

static void kill_end(struct drive *d, enum side side)
{
	int mine = 1 + (int)side;

	kill(d->pids[side], SIGKILL);
	waitpid(d->pids[side], NULL, 0);
	d->k->dead[side] = true;
	d->pids[side] = 0;
	atomic_compare_exchange_strong(&d->k->runner, &mine, 0);
}

/* The line is lost, and the source is asked to do something about it. */
static void act(struct drive *d)
{
	struct killed *k = d->k;

	if (k->plan.then == WAIT || k->resumes >= RESUMES_MAX)
		return;
	if (k->plan.then == RECLAIM && !d->reclaimed) {
		d->reclaimed = true;
		order(d, AT_SOURCE, DO_RECLAIM);
		return;
	}
	if (k->plan.then == GIVE_UP && !d->given_up && !k->dead[AT_DESTINATION]) {
		d->given_up = true;
		order(d, AT_DESTINATION, DO_GIVE_UP);
	}
	order(d, AT_SOURCE, DO_RESUME);
}

static void in_doubt(struct drive *d)
{
	if (d->k->dead[AT_DESTINATION]) {
		if (!atomic_exchange(&d->k->forced, true))
			order(d, AT_SOURCE, DO_FORCE);
	} else if (d->doubts < d->k->ends[AT_SOURCE].told[GM_MIGRATE_TOLD_FAILED] &&
		   d->doubts < DOUBTS_MAX && d->k->resumes < RESUMES_MAX) {
		d->doubts = d->k->ends[AT_SOURCE].told[GM_MIGRATE_TOLD_FAILED];
		order(d, AT_SOURCE, DO_RESUME);
	}
}

static void operate(struct drive *d)
{
	struct ended *source = &d->k->ends[AT_SOURCE];

	if (d->k->dead[AT_SOURCE]) {
		if (d->k->plan.then == GIVE_UP && !d->given_up &&
			d->k->ends[AT_DESTINATION].state == GM_MIGRATE_IS_LOST) {
			d->given_up = true;
			order(d, AT_DESTINATION, DO_GIVE_UP);
		}
		return;
	}
	if (source->state == GM_MIGRATE_IS_DOUBT) {
		in_doubt(d);
		return;
	}
	if (source->no > d->refused || source->told[GM_MIGRATE_TOLD_LOST] > d->lost) {
		d->refused = source->no;
		d->lost = source->told[GM_MIGRATE_TOLD_LOST];
		d->act_at = now_ns() + rng_below(&d->rng, 50) * MSEC;
	}
	if (d->act_at && now_ns() >= d->act_at) {
		d->act_at = 0;
		if (source->state == GM_MIGRATE_IS_LOST)
			act(d);
	}
}

static bool is_over(const struct drive *d)
{
	const struct killed *k = d->k;
	uint32_t source = k->ends[AT_SOURCE].state;
	uint32_t destination = k->ends[AT_DESTINATION].state;
	bool over = k->dead[AT_SOURCE] || source >= GM_MIGRATE_IS_ENDED;
	bool there = k->dead[AT_DESTINATION] || destination >= GM_MIGRATE_IS_ENDED;

	/* It does not know that there was a source. */
	if (over && destination == GM_MIGRATE_IS_IDLE)
		there = true;
	/* It was asked to try again, and did. */
	if (source == GM_MIGRATE_IS_DOUBT && !k->dead[AT_DESTINATION] &&
		k->ends[AT_SOURCE].told[GM_MIGRATE_TOLD_FAILED] > d->doubts &&
		(d->doubts >= DOUBTS_MAX || k->resumes >= RESUMES_MAX))
		over = true;
	return over && there;
}

static void watch(struct drive *d, enum side side)
{
	int status;

	if (!d->pids[side] || waitpid(d->pids[side], &status, WNOHANG) != d->pids[side])
		return;
	d->pids[side] = 0;
	if (status)
		killed_wrong(d->k, "the %s ended with status 0x%x", side ? "destination" : "source",
			(unsigned int)status);
}

static void hangs(struct drive *d, const char *when)
{
	killed_wrong(d->k, "%s: source %s, destination %s, %u lost, %u resumes", when,
		gm_migrate_state_name(d->k->ends[0].state),
		gm_migrate_state_name(d->k->ends[1].state),
		d->k->ends[0].told[GM_MIGRATE_TOLD_LOST], d->k->resumes);
}

static void quit_both(struct drive *d)
{
	uint64_t until = now_ns() + PATIENCE_NS;

	for (int i = 0; i < SIDES; i++) {
		if (d->pids[i])
			order(d, (enum side)i, DO_QUIT);
	}
	while ((d->pids[0] || d->pids[1]) && now_ns() < until) {
		for (int i = 0; i < SIDES; i++)
			watch(d, (enum side)i);
		nap_us(1000);
	}
	for (int i = 0; i < SIDES; i++) {
		if (!d->pids[i])
			continue;
		hangs(d, "it does not quit");
		kill(d->pids[i], SIGKILL);
		waitpid(d->pids[i], NULL, 0);
	}
}

/* What the two have become has to be what one guest can. */
static void judge(struct killed *k)
{
	const struct ended *a = &k->ends[AT_SOURCE];
	const struct ended *b = &k->ends[AT_DESTINATION];
	bool here = a->state >= GM_MIGRATE_IS_CANCELLED && a->state <= GM_MIGRATE_IS_RECLAIMED;

	if (k->dead[AT_SOURCE] && b->state == GM_MIGRATE_IS_ENDED && !b->runs)
		killed_wrong(k, "it ended well and never ran");
	if (here && !k->forced && b->runs)
		killed_wrong(k, "the source has it, and it ran at the destination");
	if (here && k->runner != 1 + AT_SOURCE)
		killed_wrong(k, "the source has it, and %d is to run it", k->runner);
	/* States that lasted no longer than a step are not told. */
	if (!a->handed && !k->dead[AT_SOURCE] && !here && a->state != GM_MIGRATE_IS_ENDED &&
		a->state != GM_MIGRATE_IS_GIVEN_UP)
		killed_wrong(k, "it was not handed over, and the source is %s",
			gm_migrate_state_name(a->state));
	if (a->state == GM_MIGRATE_IS_ENDED && !k->dead[AT_DESTINATION] &&
		b->state != GM_MIGRATE_IS_ENDED)
		killed_wrong(k, "it ended well, and the destination is %s",
			gm_migrate_state_name(b->state));
	if (a->state == GM_MIGRATE_IS_GIVEN_UP && !k->dead[AT_DESTINATION] &&
		b->state != GM_MIGRATE_IS_GIVEN_UP)
		killed_wrong(k, "it was given up, and the destination is %s",
			gm_migrate_state_name(b->state));
	if (b->runs > 1)
		killed_wrong(k, "it was to run %u times at the destination", b->runs);
}

static void drive(struct killed *k)
{
	struct drive d = {.k = k, .rng = {k->plan.seed + 99}};
	uint64_t until = now_ns() + PATIENCE_NS;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		_exit(6);
	signal(SIGPIPE, SIG_IGN);
	start_both(&d);
	while (!is_over(&d) && !k->wrong) {
		if (now_ns() > until) {
			hangs(&d, "it does not end");
			break;
		}
		if (proxy_step(d.proxy, 5))
			kill_end(&d, k->plan.trouble == KILL_SOURCE ? AT_SOURCE : AT_DESTINATION);
		watch(&d, AT_SOURCE);
		watch(&d, AT_DESTINATION);
		operate(&d);
	}
	quit_both(&d);
	if (!k->wrong)
		judge(k);
	proxy_destroy(d.proxy);
	_exit(0);
}

/* ---- what became of it ---- */

enum outcome {
	WENT_WELL,
	WELL_RESUMED,
	STAYED,
	TAKEN_BACK,
	FORCED,
	PAGES_LOST,
	DOUBT,
	RUNS_ALONE, /* the source died */
	LOST_ALONE,
	NOBODY,
	DESTINATION_DIED_LAST, /* and the source was told that it was done */
	OUTCOMES,
};

static const char *const outcome_names[OUTCOMES] = {"well", "well, resumed", "stayed", "taken back",
	"forced", "pages lost", "doubt", "source dead: well", "source dead: pages lost",
	"source dead: nobody runs it", "destination dead: after the end"};

static enum outcome outcome_of(const struct killed *k)
{
	uint32_t a = k->ends[AT_SOURCE].state;
	uint32_t b = k->ends[AT_DESTINATION].state;

	if (k->dead[AT_SOURCE])
		return b == GM_MIGRATE_IS_ENDED      ? RUNS_ALONE
		       : b == GM_MIGRATE_IS_GIVEN_UP ? LOST_ALONE
						     : NOBODY;
	if (k->forced)
		return FORCED;
	if (a == GM_MIGRATE_IS_ENDED && k->dead[AT_DESTINATION])
		return DESTINATION_DIED_LAST;
	if (a == GM_MIGRATE_IS_ENDED)
		return k->resumes ? WELL_RESUMED : WENT_WELL;
	if (a == GM_MIGRATE_IS_RECLAIMED)
		return TAKEN_BACK;
	if (a == GM_MIGRATE_IS_GIVEN_UP)
		return PAGES_LOST;
	return a == GM_MIGRATE_IS_DOUBT ? DOUBT : STAYED;
}

static unsigned int struck[TROUBLES][PHASES];
static unsigned int missed[TROUBLES][PHASES];
static unsigned int became[TROUBLES][OUTCOMES];
static unsigned int became_in[PHASES][OUTCOMES];
static unsigned int nr_wrong;

static void count(const struct killed *k, unsigned long nr)
{
	const struct plan *p = &k->plan;
	enum outcome outcome = outcome_of(k);

	struck[p->trouble][p->phase] += k->struck;
	missed[p->trouble][p->phase] += !k->struck;
	became[p->trouble][outcome]++;
	became_in[p->phase][outcome]++;
	if (getenv("GM_TEST_POINT") || k->wrong)
		print_message(
			"point %lu: %s in %s, %s: source %s (%d %s), destination %s (%d %s)\n", nr,
			trouble_names[p->trouble], phase_names[p->phase], outcome_names[outcome],
			gm_migrate_state_name(k->ends[0].state), k->ends[0].rc, k->ends[0].why,
			gm_migrate_state_name(k->ends[1].state), k->ends[1].rc, k->ends[1].why);
	if (!k->wrong)
		return;
	nr_wrong++;
	print_message(
		"point %lu (GM_TEST_POINT=%lu): %s; way %u, memory %u, %s, %u bulk, %u urgent, "
		"then %u\n",
		nr, nr, k->what, p->way, (unsigned int)p->memory, p->tcp ? "TCP" : "Unix", p->bulk,
		p->urgent, (unsigned int)p->then);
}

static void show_table(void)
{
	print_message("%-18s", "struck (missed)");
	for (int i = 0; i < PHASES; i++)
		print_message("%12s", phase_names[i]);
	print_message("\n");
	for (int t = 0; t < TROUBLES; t++) {
		print_message("%-18s", trouble_names[t]);
		for (int i = 0; i < PHASES; i++)
			print_message("%6u (%3u)", struck[t][i], missed[t][i]);
		print_message("\n");
	}
	for (int t = 0; t < TROUBLES; t++) {
		print_message("%-18s", trouble_names[t]);
		for (int i = 0; i < OUTCOMES; i++) {
			if (became[t][i])
				print_message("  %s: %u", outcome_names[i], became[t][i]);
		}
		print_message("\n");
	}
	for (int t = 0; t < PHASES; t++) {
		print_message("in %-15s", phase_names[t]);
		for (int i = 0; i < OUTCOMES; i++) {
			if (became_in[t][i])
				print_message("  %s: %u", outcome_names[i], became_in[t][i]);
		}
		print_message("\n");
	}
}

/* ---- all of them, some at a time ---- */

struct job {
	pid_t pid;
	unsigned long nr;
	struct killed *k;
};

static void start(struct job *job, unsigned long nr, bool huge)
{
	job->nr = nr;
	memset(job->k, 0, sizeof(*job->k));
	job->k->plan = make_plan(nr, huge);
	job->k->pages = job->k->plan.memory >= HUGE ? 1024 : 512;
	job->pid = fork();
	assert_true(job->pid >= 0);
	if (!job->pid)
		drive(job->k);
}

static void wait_one(struct job *jobs, uint32_t nr)
{
	int status = 0;
	pid_t pid = waitpid(-1, &status, 0);

	assert_true(pid > 0);
	for (uint32_t i = 0; i < nr; i++) {
		if (jobs[i].pid != pid)
			continue;
		jobs[i].pid = 0;
		if (status)
			killed_wrong(
				jobs[i].k, "who drives it ended with 0x%x", (unsigned int)status);
		count(jobs[i].k, jobs[i].nr);
	}
}

static struct job *unused(struct job *jobs, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		if (!jobs[i].pid)
			return &jobs[i];
	}
	return NULL;
}

static void run_points(unsigned long first, unsigned long nr)
{
	struct job jobs[AT_ONCE] = {{.pid = 0}};
	bool huge = support_pool(21, 4 * AT_ONCE);
	size_t len = (sizeof(struct killed) + PAGE - 1) / PAGE * PAGE;
	uint32_t at_once = nr < AT_ONCE ? (uint32_t)nr : AT_ONCE;
	unsigned long running = 0;

	for (uint32_t i = 0; i < at_once; i++) {
		jobs[i].k =
			mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		assert_true(jobs[i].k != MAP_FAILED);
	}
	for (unsigned long i = first; i < first + nr || running;) {
		struct job *job = i < first + nr ? unused(jobs, at_once) : NULL;

		if (job) {
			start(job, i++, huge);
			running++;
		} else {
			wait_one(jobs, at_once);
			running--;
		}
	}
	for (uint32_t i = 0; i < at_once; i++)
		munmap(jobs[i].k, len);
}

static void whatever_goes_wrong_one_guest_runs(void **ctx)
{
	const char *point = getenv("GM_TEST_POINT");
	unsigned long nr = support_scale(POINTS);

	(void)ctx;
	run_points(point ? strtoul(point, NULL, 0) : 0, point ? 1 : nr);
	if (nr > POINTS || nr_wrong)
		show_table();
	assert_int_equal(nr_wrong, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whatever_goes_wrong_one_guest_runs),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
