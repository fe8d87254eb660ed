/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_vhost_server.c - back-ends behind sockets: half messages, too many descriptors, silent and hostile front-ends,
 * the next one after each.
 */
#include "vhost_front.h"

#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/un.h>
#include <time.h>

static struct gm_vhost_server *server;
static int ends;
static int end_rc;
static char end_text[200];

static void ended(void *ctx, int rc, const struct gm_error *why)
{
	(void)ctx;
	ends++;
	end_rc = rc;
	snprintf(end_text, sizeof(end_text), "%.199s", why->text);
}

static int listener(struct sockaddr_un *addr)
{
	static unsigned int nr;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	/* An abstract name: nothing is left in the file system. */
	snprintf(addr->sun_path + 1, sizeof(addr->sun_path) - 1, "gm-vhost-%d-%u", getpid(), nr++);
	assert_int_equal(bind(fd, (struct sockaddr *)addr, sizeof(*addr)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

static int come(const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (const struct sockaddr *)addr, sizeof(*addr)), 0);
	return fd;
}

static void turn(int nr)
{
	for (int i = 0; i < nr; i++)
		assert_true(gm_vhost_server_turn(server, 0, &err) >= 0);
}

/* Until there is @nr ends; the wait is on the loop's own events. */
static void until_ends(int nr)
{
	while (ends < nr)
		assert_true(gm_vhost_server_turn(server, 20000, &err) > 0);
}

struct wire {
	uint32_t head[3];
	uint8_t payload[GM_VHOST_PAYLOAD_MAX];
};

static ssize_t put_wire(int sock, const void *bytes, size_t len, const int *fds, uint32_t nr_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(253 * sizeof(int))];
	} control = {.bytes = {0}};
	struct iovec iov = {(void *)(uintptr_t)bytes, len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (nr_fds) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, nr_fds * sizeof(int));
	}
	return sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void send_msg(int sock, uint32_t request, const void *payload, uint32_t len)
{
	struct wire w = {.head = {request, GM_VHOST_VERSION | GM_VHOST_NEED_REPLY, len}};

	memcpy(w.payload, payload, len);
	assert_int_equal(put_wire(sock, &w, 12 + len, NULL, 0), (ssize_t)(12 + len));
}

static uint64_t get_number(int sock)
{
	uint8_t bytes[20];
	uint64_t number;

	turn(2);
	assert_int_equal(recv(sock, bytes, sizeof(bytes), MSG_DONTWAIT), sizeof(bytes));
	memcpy(&number, bytes + 12, 8);
	return number;
}

static void serve(struct front *f, int listen_fd, uint64_t timeout_ns)
{
	const struct gm_vhost_door door = {.size = sizeof(door),
		.backend = f->b,
		.listener_plus = listen_fd + 1,
		.ended = ended,
		.timeout_ns = timeout_ns};

	ends = 0;
	assert_ok(gm_vhost_server_create(&server, &err));
	assert_ok(gm_vhost_server_add(server, &door, NULL, &err));
}

static void end_serving(struct front *f, int door)
{
	gm_vhost_server_destroy(server);
	close_backend(f);
	close(door);
}

static void a_message_comes_in_any_pieces(void **state)
{
	struct sockaddr_un addr;
	int door = listener(&addr);
	struct front f;
	int sock;

	(void)state;
	open_backend(&f, NULL);
	serve(&f, door, 0);
	sock = come(&addr);
	send_msg(sock, GM_VHOST_GET_FEATURES, "", 0);
	turn(2);
	assert_int_equal(
		get_number(sock), ALL_FEATURES | GM_VHOST_F_PROTOCOL_FEATURES | GM_VHOST_F_LOG_ALL);
	for (size_t cut = 1; cut < 20; cut++) {
		struct wire w = {.head = {GM_VHOST_SET_FEATURES, GM_VHOST_VERSION, 8}};

		w.payload[4] = (uint8_t)(cut & 1); /* VERSION_1 or not */
		assert_int_equal(put_wire(sock, &w, cut, NULL, 0), (ssize_t)cut);
		turn(1);
		assert_int_equal(put_wire(sock, (uint8_t *)&w + cut, 20 - cut, NULL, 0),
			(ssize_t)(20 - cut));
		turn(1);
		assert_int_equal(f.dev.features >> 32, cut & 1);
	}
	/* Many in one piece. */
	for (int i = 0; i < 50; i++)
		send_msg(sock, GM_VHOST_SET_OWNER, "", 0);
	turn(4);
	assert_int_equal(ends, 0);
	close(sock);
	until_ends(1);
	assert_int_equal(end_rc, -EPIPE);
	end_serving(&f, door);
}

/* Whole; cut within the head; cut within the payload. */
static void send_with_fds(
	const struct sockaddr_un *addr, uint32_t request, const int *fds, uint32_t nr_fds)
{
	const struct gm_vhost_kind *kind = gm_vhost_kind(GM_VHOST_FROM_FRONTEND, request);
	const uint32_t len = kind ? kind->len_min : 8;

	for (int cut = 0; cut < 3; cut++) {
		struct wire w = {.head = {request, GM_VHOST_VERSION, len}};
		size_t bytes = cut == 0 ? 12 + len : cut == 1 ? 5 : 12 + len / 2;
		int was = ends;
		int sock = come(addr);

		turn(2);
		put_wire(sock, &w, bytes, fds, nr_fds);
		turn(2);
		close(sock);
		until_ends(was + 1);
	}
}

/* R5, R31: descriptors that do not belong are closed, on every way out. In a soak as often as it is long. */
static void no_descriptor_is_lost(void **state)
{
	static const uint32_t numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 253};
	const size_t nr = sizeof(numbers) / sizeof(numbers[0]);
	const unsigned long rounds = getenv("GM_SOAK") ? support_scale(10) : 1;
	struct sockaddr_un addr;
	int door = listener(&addr);
	struct front f;
	size_t memory = 0;
	size_t open;
	int fds[253];

	(void)state;
	open_backend(&f, NULL);
	serve(&f, door, 0);
	for (int i = 0; i < 253; i++)
		fds[i] = f.kick;
	open = count_fds();
	for (unsigned long round = 0; round < rounds; round++) {
		for (uint32_t request = 0; request < 48; request++) {
			for (size_t k = 0; k < nr; k++)
				send_with_fds(&addr, request, fds, numbers[k]);
			assert_int_equal(count_fds(), open);
		}
		if (round == 0)
			memory = (size_t)mallinfo2().uordblks;
	}
	assert_true((size_t)mallinfo2().uordblks <= memory + 65536);
	if (getenv("GM_SOAK"))
		printf("figure: vhost_rounds_of_every_message %lu\n", rounds);
	end_serving(&f, door);
}

static void *call_it(void *ctx)
{
	return (void *)(intptr_t)gm_vhost_backend_call(ctx, 0);
}

/* A front-end has the same open file: it can make it blocking after the message was handled, and fill the counter. */
static void a_counter_that_is_full_holds_no_call_up(void **state)
{
	const uint64_t full = UINT64_MAX - 1;
	struct sockaddr_un addr;
	int door = listener(&addr);
	struct timespec until;
	struct front f;
	pthread_t thread;
	uint64_t count;
	void *rc = NULL;
	int late;

	(void)state;
	open_front(&f, 0, 0, NULL);
	serve(&f, door, 0);
	assert_int_equal(write(f.call, &full, sizeof(full)), sizeof(full));
	assert_int_equal(fcntl(f.call, F_SETFL, fcntl(f.call, F_GETFL) & ~O_NONBLOCK), 0);
	assert_int_equal(pthread_create(&thread, NULL, call_it, f.b), 0);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	late = pthread_timedjoin_np(thread, &rc, &until);
	/* Lets it go if it waits. */
	assert_int_equal(read(f.call, &count, sizeof(count)), sizeof(count));
	if (late)
		pthread_join(thread, &rc);
	assert_int_equal(late, 0);
	assert_int_equal((intptr_t)rc, 0);
	/* As often as the ring of ends has places, and more. */
	for (uint64_t i = 1; i <= 1000; i++)
		assert_int_equal(gm_vhost_backend_call(f.b, 0), 0);
	assert_int_equal(read(f.call, &count, sizeof(count)), sizeof(count));
	assert_int_equal(count, 1000);
	end_serving(&f, door);
}

/* Descriptors come with the first byte of a header, at no other place: here is one that the message needs. */
static void descriptors_in_the_middle_end_the_connection(void **state)
{
	struct sockaddr_un addr;
	int door = listener(&addr);
	struct front f;

	(void)state;
	open_backend(&f, NULL);
	serve(&f, door, 0);
	for (int i = 0; i < 2; i++) {
		struct wire w = {.head = {GM_VHOST_SET_VRING_CALL, GM_VHOST_VERSION, 8}};
		size_t first = i ? 12 : 4;
		int sock = come(&addr);

		assert_int_equal(put_wire(sock, &w, first, NULL, 0), (ssize_t)first);
		turn(2);
		assert_int_equal(put_wire(sock, (uint8_t *)&w + first, 20 - first, &f.call, 1),
			(ssize_t)(20 - first));
		until_ends(i + 1);
		assert_int_equal(end_rc, -EPROTO);
		close(sock);
	}
	end_serving(&f, door);
}

static void lies_in_a_head_end_the_connection(void **state)
{
	static const uint32_t heads[][3] = {
		{1, 0, 0},
		{1, 2, 0},
		{1, 3, 0},
		{1, GM_VHOST_VERSION | GM_VHOST_REPLY, 0},
		{1, GM_VHOST_VERSION, GM_VHOST_PAYLOAD_MAX + 1},
		{1, GM_VHOST_VERSION, UINT32_MAX},
		{2, GM_VHOST_VERSION, 7},
		{2, GM_VHOST_VERSION, 9},
		{99, GM_VHOST_VERSION, UINT32_MAX},
	};
	struct sockaddr_un addr;
	int door = listener(&addr);
	struct front f;

	(void)state;
	open_backend(&f, NULL);
	serve(&f, door, 0);
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		int sock = come(&addr);

		assert_int_equal(put_wire(sock, heads[i], 12, NULL, 0), 12);
		until_ends((int)i + 1);
		assert_int_equal(end_rc, -EPROTO);
		assert_true(end_text[0]);
		close(sock);
	}
	end_serving(&f, door);
}

/* R33: half of a message, and replies that nobody reads. */
static void who_stops_in_the_middle_is_cut_off(void **state)
{
	struct sockaddr_un addr;
	int door = listener(&addr);
	struct wire w = {.head = {GM_VHOST_GET_FEATURES, GM_VHOST_VERSION, 0}};
	struct front f;
	int silent;
	int sock;

	(void)state;
	open_backend(&f, NULL);
	serve(&f, door, 50000000);
	sock = come(&addr);
	assert_int_equal(put_wire(sock, &w, 11, NULL, 0), 11);
	until_ends(1);
	assert_int_equal(end_rc, -ETIMEDOUT);
	close(sock);
	sock = come(&addr);
	turn(2);
	for (int i = 0; i < 100000 && ends < 2; i++) {
		put_wire(sock, &w, 12, NULL, 0);
		turn(1);
	}
	until_ends(2);
	assert_int_equal(end_rc, -ETIMEDOUT);
	close(sock);
	/* Between messages a front-end may be silent as long as it likes. */
	silent = come(&addr);
	turn(2);
	usleep(120000);
	turn(2);
	assert_int_equal(ends, 2);
	close(silent);
	until_ends(3);
	end_serving(&f, door);
}

static void the_next_front_end_waits_and_finds_a_fresh_device(void **state)
{
	struct sockaddr_un addr;
	int door = listener(&addr);
	const uint64_t features = F_VERSION_1;
	struct front f;
	int first;
	int second;

	(void)state;
	open_backend(&f, NULL);
	serve(&f, door, 0);
	for (int i = 0; i < 20; i++) {
		uint8_t byte;

		first = come(&addr);
		turn(2);
		send_msg(first, GM_VHOST_SET_FEATURES, &features, 8);
		turn(2);
		assert_int_equal(f.dev.comes, 2 * i + 1);
		/* Nobody is let in beside it. */
		second = come(&addr);
		send_msg(second, GM_VHOST_GET_QUEUE_NUM, "", 0);
		turn(4);
		assert_int_equal(recv(second, &byte, 1, MSG_DONTWAIT), -1);
		close(first);
		until_ends(2 * i + 1);
		/* It has negotiated nothing, so that it may not ask this. */
		until_ends(2 * i + 2);
		assert_int_equal(end_rc, -ENOTSUP);
		close(second);
	}
	end_serving(&f, door);
}

/* One of four breaks all rules; the others do not notice. */
static void a_bad_front_end_harms_no_other(void **state)
{
	struct sockaddr_un addr[4];
	struct front f[4];
	int doors[4];
	int socks[4];

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct gm_vhost_door door = {.size = sizeof(door), .ended = ended};

		open_backend(&f[i], NULL);
		doors[i] = listener(&addr[i]);
		if (i == 0) {
			serve(&f[0], doors[0], 0);
		} else {
			door.backend = f[i].b;
			door.listener_plus = doors[i] + 1;
			assert_ok(gm_vhost_server_add(server, &door, NULL, &err));
		}
		socks[i] = come(&addr[i]);
	}
	for (int round = 0; round < 50; round++) {
		put_wire(socks[0], "all of this is wrong", 20, NULL, 0);
		for (int i = 1; i < 4; i++) {
			send_msg(socks[i], GM_VHOST_GET_FEATURES, "", 0);
			turn(2);
			assert_int_equal(get_number(socks[i]) & F_VERSION_1, F_VERSION_1);
		}
		until_ends(round + 1);
		assert_int_equal(end_rc, -EPROTO);
		close(socks[0]);
		socks[0] = come(&addr[0]);
	}
	assert_int_equal(ends, 50);
	gm_vhost_server_destroy(server);
	for (int i = 0; i < 4; i++) {
		close(socks[i]);
		close_backend(&f[i]);
		close(doors[i]);
	}
}

/* A socket that was inherited; one that is made by a callback, again and again. */
static const struct sockaddr_un *target;
static int connects;

static int make_connection(void *ctx)
{
	(void)ctx;
	return connects++ % 2 ? come(target) : -ECONNREFUSED;
}

static void connections_may_be_given_or_made(void **state)
{
	struct gm_vhost_door door = {.size = sizeof(door),
		.ended = ended,
		.connect = make_connection,
		.retry_ns = 1000000};
	struct sockaddr_un addr;
	int listen_fd = listener(&addr);
	struct front f;
	uint64_t id;
	int pair[2];
	int sock;

	(void)state;
	open_backend(&f, NULL);
	ends = 0;
	connects = 0;
	target = &addr;
	door.backend = f.b;
	assert_ok(gm_vhost_server_create(&server, &err));
	assert_ok(gm_vhost_server_add(server, &door, &id, &err));
	for (int i = 1; i <= 3; i++) {
		while ((sock = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC)) < 0)
			assert_true(gm_vhost_server_turn(server, 1000, &err) >= 0);
		send_msg(sock, GM_VHOST_GET_FEATURES, "", 0);
		assert_int_equal(get_number(sock) & F_VERSION_1, F_VERSION_1);
		close(sock);
		until_ends(i);
	}
	assert_int_equal(gm_vhost_server_remove(server, id), 0);
	assert_int_equal(gm_vhost_server_remove(server, id), -ENOENT);
	turn(1);
	door.connect = NULL;
	assert_int_equal(gm_vhost_server_add(server, &door, NULL, &err), -EINVAL);
	door.socket_plus = f.kick + 1;
	assert_int_equal(gm_vhost_server_add(server, &door, NULL, &err), -ENOTSOCK);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	door.socket_plus = listen_fd + 1;
	assert_int_equal(gm_vhost_server_add(server, &door, NULL, &err), -EINVAL);
	door.socket_plus = 0;
	door.listener_plus = pair[0] + 1;
	assert_int_equal(gm_vhost_server_add(server, &door, NULL, &err), -EINVAL);
	door.listener_plus = 0;
	door.socket_plus = pair[0] + 1;
	assert_ok(gm_vhost_server_add(server, &door, NULL, &err));
	send_msg(pair[1], GM_VHOST_GET_FEATURES, "", 0);
	assert_int_equal(get_number(pair[1]) & F_VERSION_1, F_VERSION_1);
	close(pair[1]);
	until_ends(4);
	gm_vhost_server_destroy(server);
	close_backend(&f);
	close(listen_fd);
}

/* ---- a device in the loop ---- */

static void on_kick(void *ctx)
{
	struct device *d = ctx;
	uint64_t nr;

	assert_int_equal(read(d->queue[0].kick, &nr, 8), 8);
	d->kicks++;
	dev_serve(d, 0);
	/* From a callback. */
	assert_int_equal(gm_vhost_server_unwatch(server, d->queue[0].kick), 0);
}

static void kicks_are_watched_in_the_same_loop(void **state)
{
	const uint64_t one = 1;
	struct front f;

	(void)state;
	open_front(&f, 0, 0, NULL);
	assert_ok(gm_vhost_server_create(&server, &err));
	for (uint8_t i = 0; i < 5; i++) {
		assert_int_equal(
			gm_vhost_server_watch(server, f.dev.queue[0].kick, on_kick, &f.dev), 0);
		assert_int_equal(
			gm_vhost_server_watch(server, f.dev.queue[0].kick, on_kick, &f.dev),
			-EEXIST);
		offer(&f, i, IN_AT, OUT_AT);
		assert_int_equal(write(f.kick, &one, 8), 8);
		assert_int_equal(gm_vhost_server_turn(server, 20000, &err), 1);
		take_back(&f, i, OUT_AT);
	}
	assert_int_equal(gm_vhost_server_unwatch(server, f.dev.queue[0].kick), -ENOENT);
	assert_true(gm_vhost_server_fd(server) >= 0);
	gm_vhost_server_destroy(server);
	close_backend(&f);
}

/* ---- every message, again and again, in any order ---- */

static uint64_t seed;

static uint32_t random_below(uint32_t n)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % n;
}

static void fill_payload(struct wire *w, uint32_t len)
{
	static const uint64_t likely[] = {0, 1, 2, 63, 64, 255, 256, PAGE, MIB(1), RAM, USER,
		USER + DESC_AT, USER + RAM, UINT64_MAX, UINT64_MAX - 4095, UINT32_MAX};

	for (uint32_t at = 0; at + 8 <= len; at += 8) {
		uint64_t v = likely[random_below(16)];

		if (random_below(8) == 0)
			v = (uint64_t)random_below(UINT32_MAX) << 32 | random_below(UINT32_MAX);
		memcpy(w->payload + at, &v, 8);
	}
	if (w->head[0] == GM_VHOST_SET_MEM_TABLE) {
		uint64_t nr = (len - 8) / 32;

		memcpy(w->payload, &nr, 8);
	}
}

/* A message that is likely to be one; returns how many descriptors it has. */
static uint32_t make_message(struct wire *w)
{
	const struct gm_vhost_kind *kind = gm_vhost_kind(GM_VHOST_FROM_FRONTEND, w->head[0]);
	const uint64_t protocol = 0xdb62bu; /* all that is offered */
	const uint64_t features =
		(ALL_FEATURES | GM_VHOST_F_PROTOCOL_FEATURES) & UINT64_MAX >> random_below(64);
	uint32_t nr_fds = kind && random_below(16) ? kind->fds_min : random_below(10);

	w->head[1] = GM_VHOST_VERSION | GM_VHOST_NEED_REPLY;
	w->head[2] = !kind ? random_below(64)
			   : kind->len_min + random_below(4) / 3 *
						     (uint32_t)(kind->len_max - kind->len_min);
	fill_payload(w, w->head[2]);
	if (w->head[0] == GM_VHOST_SET_PROTOCOL_FEATURES)
		memcpy(w->payload, &protocol, 8);
	if (w->head[0] == GM_VHOST_SET_FEATURES)
		memcpy(w->payload, &features, 8);
	if (w->head[0] == GM_VHOST_SET_MEM_TABLE)
		nr_fds = (w->head[2] - 8) / 32;
	if (w->head[0] >= GM_VHOST_SET_VRING_KICK && w->head[0] <= GM_VHOST_SET_VRING_ERR)
		nr_fds = !(w->payload[1] & 1);
	return nr_fds;
}

/* A connection with up to 200 of them; the first two say what is negotiated. */
static unsigned long one_life(const struct sockaddr_un *addr, const int kinds[4])
{
	const uint32_t max = 1 + random_below(200);
	const int was = ends;
	int sock = come(addr);
	uint32_t i;

	turn(1);
	for (i = 0; i < max && ends == was; i++) {
		struct wire w = {.head = {random_below(47)}};
		uint8_t sink[4096];
		uint32_t nr_fds;
		int fds[10];

		if (i < 2)
			w.head[0] = i ? GM_VHOST_SET_FEATURES : GM_VHOST_SET_PROTOCOL_FEATURES;
		nr_fds = make_message(&w);
		for (uint32_t k = 0; k < nr_fds; k++)
			fds[k] = kinds[random_below(4)];
		put_wire(sock, &w, random_below(50) ? 12 + w.head[2] : 7, fds, nr_fds);
		turn(1);
		recv(sock, sink, sizeof(sink), MSG_DONTWAIT);
	}
	close(sock);
	until_ends(was + 1);
	return i;
}

static void anything_in_any_order_is_survived(void **state)
{
	const char *text = getenv("GM_TEST_SEED");
	const unsigned long lives = support_scale(150);
	unsigned long messages = 0;
	struct sockaddr_un addr;
	int door = listener(&addr);
	struct front f;
	size_t memory = 0;
	size_t open;

	(void)state;
	seed = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL);
	print_message("GM_TEST_SEED=%" PRIu64 "\n", seed);
	open_backend(&f, NULL);
	serve(&f, door, 0);
	open = count_fds();
	for (unsigned long i = 0; i < lives; i++) {
		const int kinds[] = {f.fd, f.kick, door, gm_vhost_server_fd(server)};

		messages += one_life(&addr, kinds);
		assert_int_equal(count_fds(), open);
		if (i == lives / 3)
			memory = (size_t)mallinfo2().uordblks;
	}
	/* What sanitizers allocate is not counted there. */
	assert_true((size_t)mallinfo2().uordblks <= memory + 65536);
	if (getenv("GM_SOAK"))
		printf("figure: vhost_messages %lu\n", messages);
	end_serving(&f, door);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_comes_in_any_pieces),
		cmocka_unit_test(no_descriptor_is_lost),
		cmocka_unit_test(a_counter_that_is_full_holds_no_call_up),
		cmocka_unit_test(descriptors_in_the_middle_end_the_connection),
		cmocka_unit_test(lies_in_a_head_end_the_connection),
		cmocka_unit_test(who_stops_in_the_middle_is_cut_off),
		cmocka_unit_test(the_next_front_end_waits_and_finds_a_fresh_device),
		cmocka_unit_test(a_bad_front_end_harms_no_other),
		cmocka_unit_test(connections_may_be_given_or_made),
		cmocka_unit_test(kicks_are_watched_in_the_same_loop),
		cmocka_unit_test(anything_in_any_order_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
