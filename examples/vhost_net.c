/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_net.c - a vhost-user network device that gives each packet back: what a driver transmits on a pair of queues is
 * received on the same pair. "vhost_net [--poll] [--connect] [--no-indirect] [--queues N] SOCKET", until
 * SIGTERM; SIGUSR1 shows counts.
 *
 * One thread does all. The library tells it which queues it may serve (queue_start, queue_stop); it waits for their
 * kicks in the loop of the sockets, or with --poll looks at them again and again. Nothing of guest memory is kept from
 * one look to the next, so a queue can be stopped at any time between two.
 *
 * The driver is not trusted. A packet is copied in once, and given from the copy; a chain of an odd shape costs its own
 * packet, a ring that breaks the rules is reported and left alone until it is started again.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <guestmem/guestmem.h>

/* VIRTIO 1.2, sections 5.1.3 and 6. */
#define NET_F_MRG_RXBUF (UINT64_C(1) << 15)
#define NET_F_MQ (UINT64_C(1) << 22)
#define F_ANY_LAYOUT (UINT64_C(1) << 27)
#define F_INDIRECT_DESC (UINT64_C(1) << 28)
#define F_EVENT_IDX (UINT64_C(1) << 29)
#define F_VERSION_1 (UINT64_C(1) << 32)
#define F_RING_PACKED (UINT64_C(1) << 34)
#define F_IN_ORDER (UINT64_C(1) << 35)

#define PAIRS_MAX 64u
#define QUEUE_SIZE 1024u /* so many elements has a chain at most */
#define BUFFERS_MAX 64u  /* of one packet */
#define PACKET_MAX 65536u
#define BATCH 64u         /* packets of a pair, before others have their turn */
#define HEADER_MAX 12u    /* struct virtio_net_hdr with num_buffers, */
#define HEADER_LEGACY 10u /* and without it: neither VERSION_1 nor MRG_RXBUF */

enum { RX, TX }; /* as the driver sees it; queue 2 * pair + this */

struct counts {
	uint64_t packets;
	uint64_t bytes;
	uint64_t sum; /* of the bytes' values */
};

struct pair {
	struct device *device;
	uint32_t index;
	struct gm_virtq *vq[2]; /* NULL: not to be served */
	int kick;               /* of TX, -1: none comes */
	bool awake;             /* there may be something to transmit */
	bool quiet;             /* the driver was told not to kick */
	uint32_t header;        /* bytes of it */
	uint32_t buffers_max;   /* that a packet is spread over */
	struct counts taken, given;
	uint64_t dropped; /* no room to receive them */
	uint64_t bad;     /* chains that hold no packet, or cannot be read or written */
};

struct device {
	struct gm_vhost_backend *backend;
	struct gm_vhost_server *server;
	struct gm_reader *reader;
	const char *path;
	uint32_t nr_pairs;
	bool poll;
	bool connect;
	bool no_indirect;
	bool ending;
	int signals;
	struct pair pairs[PAIRS_MAX];
	/* Of the packet that is on its way. */
	struct gm_chain_elem tx_elems[QUEUE_SIZE];
	struct gm_chain_elem rx_elems[BUFFERS_MAX][QUEUE_SIZE];
	struct gm_virtq_item rx_items[BUFFERS_MAX];
	uint8_t frame[HEADER_MAX + PACKET_MAX]; /* the packet begins at HEADER_MAX */
};

static void count(struct counts *c, const uint8_t *bytes, size_t len)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += bytes[i];
	c->packets++;
	c->bytes += len;
	c->sum += sum;
}

/* ---- packets ---- */

/* Takes receive chains with room for @len bytes. Their number; 0: there is no room; or what the ring is broken by. */
static int take_room(struct pair *p, const struct gm_view *view, size_t len, struct gm_error *err)
{
	struct device *d = p->device;
	uint64_t room = 0;
	uint32_t nr = 0;
	int rc = 1;

	while (room < len && nr < p->buffers_max) {
		struct gm_virtq_item *item = &d->rx_items[nr];

		rc = gm_virtq_pop(p->vq[RX], view, d->rx_elems[nr], QUEUE_SIZE, item, err);
		if (rc <= 0)
			break;
		room += gm_chain_left(&item->chain, GM_CHAIN_WRITABLE);
		nr++;
	}
	if (room >= len)
		return (int)nr;
	/* Where chains in flight are recorded none can be put back: it is used, and empty. */
	while (nr-- > 0) {
		if (gm_virtq_unpop(p->vq[RX], &d->rx_items[nr]))
			gm_virtq_fill(p->vq[RX], view, &d->rx_items[nr], 0);
	}
	return rc < 0 ? rc : 0;
}

/* Gives the packet of @len bytes in the frame to the driver. 0, or what the ring is broken by. */
static int give(struct pair *p, const struct gm_view *view, size_t len, struct gm_error *err)
{
	struct device *d = p->device;
	const size_t whole = p->header + len;
	uint8_t *from = d->frame + HEADER_MAX - p->header;
	const int nr = p->vq[RX] ? take_room(p, view, whole, err) : 0;
	size_t left = whole;
	int bad = 0;
	int rc = 0;

	p->dropped += nr <= 0;
	if (nr <= 0)
		return nr;
	/* Nothing of it is taken over from the header that was transmitted. */
	memset(from, 0, p->header);
	if (p->header == HEADER_MAX)
		from[HEADER_LEGACY] = (uint8_t)nr; /* num_buffers, little-endian */
	for (int i = 0; i < nr; i++) {
		struct gm_virtq_item *item = &d->rx_items[i];
		const uint64_t room = gm_chain_left(&item->chain, GM_CHAIN_WRITABLE);
		const size_t part = room < left ? (size_t)room : left;
		size_t done = 0;

		bad |= gm_chain_write(&item->chain, view, from + whole - left, part, &done);
		left -= part;
		if (!rc)
			rc = gm_virtq_fill(p->vq[RX], view, item, (uint32_t)done);
	}
	if (bad)
		p->bad++;
	else
		count(&p->given, d->frame + HEADER_MAX, len);
	return rc;
}

/* Takes a packet and gives it back. 1; 0: there is none; or what the ring @ret_side is broken by. */
static int pass_on(struct pair *p, const struct gm_view *view, int *ret_side, struct gm_error *err)
{
	struct device *d = p->device;
	struct gm_virtq_item item;
	uint8_t *packet = d->frame + HEADER_MAX;
	uint64_t len;
	int given = 0;
	int rc;

	*ret_side = TX;
	rc = gm_virtq_pop(p->vq[TX], view, d->tx_elems, QUEUE_SIZE, &item, err);
	if (rc <= 0)
		return rc;
	len = gm_chain_left(&item.chain, GM_CHAIN_READABLE);
	if (len <= p->header || len - p->header > PACKET_MAX ||
		gm_chain_skip(&item.chain, GM_CHAIN_READABLE, p->header) ||
		gm_chain_read(&item.chain, view, packet, (size_t)len - p->header, NULL)) {
		p->bad++;
	} else {
		count(&p->taken, packet, (size_t)len - p->header);
		given = give(p, view, (size_t)len - p->header, err);
	}
	rc = gm_virtq_fill(p->vq[TX], view, &item, 0);
	if (rc)
		return rc;
	*ret_side = RX;
	return given ? given : 1;
}

/* ---- queues ---- */

/* Nobody looks at it until it is started again. */
static void give_up(struct pair *p, int side, int rc, const struct gm_error *err)
{
	printf("queue %u is broken: %s\n", 2 * p->index + (uint32_t)side,
		err->code ? err->text : strerror(-rc));
	gm_vhost_backend_error(p->device->backend, 2 * p->index + (uint32_t)side);
	p->vq[side] = NULL;
}

/* Shows the driver what was filled. */
static void show(struct pair *p, int side, const struct gm_view *view)
{
	struct gm_error err = {0};
	int rc = p->vq[side] ? gm_virtq_flush(p->vq[side], view) : 0;

	if (rc)
		give_up(p, side, rc, &err);
	else if (p->vq[side] && gm_virtq_wants_call(p->vq[side], view))
		gm_vhost_backend_call(p->device->backend, 2 * p->index + (uint32_t)side);
}

/* Passes on what is there, up to a batch; at its end asks for a kick, unless the caller comes back by itself. */
static void serve(struct pair *p)
{
	const struct gm_view *view = gm_reader_enter(p->device->reader);
	const bool polls = p->device->poll || p->kick < 0;
	struct gm_error err = {0};
	int side = TX;
	int rc = 1;

	if (!p->quiet)
		rc = gm_virtq_kicks(p->vq[TX], view, false) < 0 ? -EIO : 1;
	p->quiet = true;
	for (uint32_t i = 0; i < BATCH && rc > 0; i++)
		rc = pass_on(p, view, &side, &err);
	if (rc < 0)
		give_up(p, side, rc, &err);
	show(p, RX, view);
	show(p, TX, view);
	if (rc == 0 && !polls && p->vq[TX]) {
		/* 1: something came meanwhile, and no kick with it. */
		rc = gm_virtq_kicks(p->vq[TX], view, true);
		p->quiet = false;
	}
	gm_reader_leave(p->device->reader);
	p->awake = p->vq[TX] && (rc != 0 || polls);
}

static void on_kick(void *ctx)
{
	struct pair *p = ctx;
	uint64_t kicks;

	/* Empty: who set it has read it again. */
	(void)!read(p->kick, &kicks, sizeof(kicks));
	p->awake = p->vq[TX];
}

static int start_rx(struct pair *p, const struct gm_vhost_queue *queue)
{
	/* Who transmits looks for receive buffers; that there are new ones is nothing to wake up for. */
	int rc = gm_virtq_kicks(queue->vq, gm_reader_enter(p->device->reader), false);

	gm_reader_leave(p->device->reader);
	return rc < 0 ? rc : 0;
}

static int start_tx(struct pair *p, const struct gm_vhost_queue *queue)
{
	int rc = queue->kick < 0
			 ? 0
			 : gm_vhost_server_watch(p->device->server, queue->kick, on_kick, p);

	p->kick = rc ? -1 : queue->kick;
	p->awake = !rc; /* a kick may have come before */
	p->quiet = false;
	return rc;
}

static int on_queue_start(void *ctx, const struct gm_vhost_queue *queue)
{
	struct pair *p = &((struct device *)ctx)->pairs[queue->index / 2];
	const bool mergeable = queue->features & NET_F_MRG_RXBUF;
	int rc = queue->index % 2 == TX ? start_tx(p, queue) : start_rx(p, queue);

	if (rc)
		return rc;
	p->vq[queue->index % 2] = queue->vq;
	p->header = mergeable || (queue->features & F_VERSION_1) ? HEADER_MAX : HEADER_LEGACY;
	p->buffers_max = mergeable ? BUFFERS_MAX : 1;
	return 0;
}

static void on_queue_stop(void *ctx, uint32_t index, bool suspend)
{
	struct device *d = ctx;
	struct pair *p = &d->pairs[index / 2];

	(void)suspend; /* nothing is ever left under way */
	p->vq[index % 2] = NULL;
	if (index % 2 == RX)
		return;
	if (p->kick >= 0)
		gm_vhost_server_unwatch(d->server, p->kick);
	p->kick = -1;
	p->awake = false;
}

/* ---- front-ends ---- */

static void on_memory(void *ctx)
{
	struct device *d = ctx;
	struct gm_vhost_backend_info info = {.size = sizeof(info)};

	if (gm_vhost_backend_info(d->backend, &info) == 0)
		printf("memory: %u regions\n", info.regions);
}

static void new_device(struct device *d)
{
	for (uint32_t i = 0; i < d->nr_pairs; i++)
		d->pairs[i] = (struct pair){.device = d, .index = i, .kick = -1};
}

static void show_counts(const struct device *d)
{
	for (uint32_t i = 0; i < d->nr_pairs; i++) {
		const struct pair *p = &d->pairs[i];

		printf("pair %u: taken %" PRIu64 " packets %" PRIu64 " bytes sum %" PRIu64
		       ", given %" PRIu64 " packets %" PRIu64 " bytes sum %" PRIu64
		       ", dropped %" PRIu64 ", bad %" PRIu64 "\n",
			i, p->taken.packets, p->taken.bytes, p->taken.sum, p->given.packets,
			p->given.bytes, p->given.sum, p->dropped, p->bad);
	}
}

/* Each front-end finds a new device. */
static void on_connected(void *ctx, bool yes)
{
	struct device *d = ctx;

	printf("front-end %s\n", yes ? "came" : "left");
	if (!yes)
		show_counts(d);
	new_device(d);
}

static void on_ended(void *ctx, int rc, const struct gm_error *err)
{
	(void)ctx;
	if (rc != -EPIPE && rc != -ECANCELED)
		printf("connection ended: %s\n", err->text);
}

/* A socket at the path, connected or listening; or negative. */
static int open_socket(void *ctx)
{
	const struct device *d = ctx;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const struct sockaddr *at = (const struct sockaddr *)&addr;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int rc;

	if (fd < 0)
		return -errno;
	memcpy(addr.sun_path, d->path, strlen(d->path));
	if (!d->connect)
		unlink(d->path); /* of one that was killed */
	rc = d->connect ? connect(fd, at, sizeof(addr))
			: bind(fd, at, sizeof(addr)) || listen(fd, 1);
	if (!rc)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/* ---- life ---- */

static void on_signal(void *ctx)
{
	struct device *d = ctx;
	struct signalfd_siginfo info;

	if (read(d->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	if (info.ssi_signo == SIGUSR1)
		show_counts(d);
	else
		d->ending = true;
}

static const struct gm_vhost_backend_ops ops = {
	.size = sizeof(ops),
	.queue_start = on_queue_start,
	.queue_stop = on_queue_stop,
	.memory = on_memory,
	.connected = on_connected,
};

static int set_up(struct device *d, int listener, struct gm_error *err)
{
	const struct gm_vhost_backend_opts opts = {
		.size = sizeof(opts),
		.ops = &ops,
		.ctx = d,
		.features = NET_F_MRG_RXBUF | (d->nr_pairs > 1 ? NET_F_MQ : 0) | F_ANY_LAYOUT |
			    (d->no_indirect ? 0 : F_INDIRECT_DESC) | F_EVENT_IDX | F_VERSION_1 |
			    F_RING_PACKED | F_IN_ORDER,
		.queues = 2 * d->nr_pairs,
		.queue_size = QUEUE_SIZE,
		.name = "vhost_net",
	};
	struct gm_vhost_door door = {.size = sizeof(door),
		.listener_plus = listener + 1,
		.connect = d->connect ? open_socket : NULL,
		.ended = on_ended,
		.ctx = d,
		.retry_ns = 100000000};
	/* With the guard, memory that a front-end cuts short costs a packet and not this process. */
	int rc = gm_guard_install();

	if (!rc)
		rc = gm_vhost_backend_create(&opts, &d->backend, err);
	door.backend = d->backend;
	if (!rc)
		rc = gm_reader_create(
			gm_vhost_backend_space(d->backend), "vhost_net", &d->reader, err);
	if (!rc)
		rc = gm_vhost_server_create(&d->server, err);
	if (!rc)
		rc = gm_vhost_server_watch(d->server, d->signals, on_signal, d);
	if (!rc)
		rc = gm_vhost_server_add(d->server, &door, NULL, err);
	return rc;
}

/* Until a signal comes: the queues that are awake, and whatever the loop has to do. */
static int run(struct device *d, struct gm_error *err)
{
	int rc = 0;

	printf("ready\n");
	while (!d->ending && (rc >= 0 || rc == -EINTR)) {
		bool awake = false;

		for (uint32_t i = 0; i < d->nr_pairs; i++) {
			if (d->pairs[i].awake)
				serve(&d->pairs[i]);
			awake |= d->pairs[i].awake;
		}
		rc = gm_vhost_server_turn(d->server, awake ? 0 : -1, err);
	}
	return d->ending ? 0 : rc;
}

static bool take_options(struct device *d, int argc, char **argv)
{
	static const struct option options[] = {{"poll", no_argument, NULL, 'p'},
		{"connect", no_argument, NULL, 'c'}, {"no-indirect", no_argument, NULL, 'i'},
		{"queues", required_argument, NULL, 'q'}, {NULL, 0, NULL, 0}};
	bool ok = true;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) > 0) {
		d->poll |= c == 'p';
		d->connect |= c == 'c';
		d->no_indirect |= c == 'i';
		d->nr_pairs = c == 'q' ? (uint32_t)strtoul(optarg, NULL, 10) : d->nr_pairs;
		ok = ok && c != '?';
	}
	if (ok && optind == argc - 1 && d->nr_pairs >= 1 && d->nr_pairs <= PAIRS_MAX &&
		strlen(argv[optind]) < sizeof(((struct sockaddr_un *)NULL)->sun_path))
		d->path = argv[optind];
	return d->path;
}

int main(int argc, char **argv)
{
	static struct device d = {.nr_pairs = 1};
	struct gm_error err = {0};
	sigset_t set;
	int listener;
	int rc;

	if (!take_options(&d, argc, argv)) {
		fprintf(stderr, "usage: vhost_net [--poll] [--connect] [--no-indirect] [--queues "
				"1..64] SOCKET\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0); /* whoever started it reads what it says */
	new_device(&d);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	d.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	listener = d.connect ? -1 : open_socket(&d);
	rc = listener < 0 && !d.connect ? listener : set_up(&d, listener, &err);
	rc = rc ? rc : run(&d, &err);
	if (rc < 0)
		fprintf(stderr, "vhost_net: %s: %s\n", d.path, err.code ? err.text : strerror(-rc));
	gm_vhost_server_destroy(d.server);
	gm_reader_destroy(d.reader);
	gm_vhost_backend_destroy(d.backend);
	close(d.signals);
	if (listener >= 0) {
		close(listener);
		unlink(d.path);
	}
	return rc < 0;
}
