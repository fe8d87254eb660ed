/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control.h - what a guest asks of its own memory's backing: requests, validated before a system call.
 *
 * Function codes 0 to 14, their numbers, the layout of requests and responses, and the registers are those
 * of "virt: pvmemcontrol: control guest physical memory properties" (version 4, linux-kernel mailing list,
 * 2024-10-21, message 20241021204849.1580384-1-yuanchu@google.com) and of the device for it in Cloud Hypervisor
 * (devices/src/pvmemcontrol.rs), so that its driver works. Codes from GM_CONTROL_OWN on are the library's.
 *
 * Nothing in a request is trusted: its range must be RAM of this space and whole pages of what backs it,
 * the code and the range allowed, the rate kept. Then the way that is right for the backing is
 * taken; what is no error there and does nothing is refused (-ENOTSUP).
 */
#ifndef GUESTMEM_CONTROL_H
#define GUESTMEM_CONTROL_H

#include <guestmem/discard.h>
#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_control;

#define GM_CONTROL_OWN 0x10000u

/** enum gm_control_code - what is asked for; (A) changes a mapping and may make several of it */
enum gm_control_code {
	GM_CONTROL_INFO = 0, /* value: the host's page size; arg0, arg1: version */
	GM_CONTROL_DONTNEED, /* freed; zeros afterwards, of a private file its bytes */
	GM_CONTROL_REMOVE,   /* freed where that is possible; zeros afterwards */
	GM_CONTROL_FREE,     /* may be freed until it is written; where only now, now */
	GM_CONTROL_PAGEOUT,  /* reclaimed now */
	GM_CONTROL_DONTDUMP, /* (A) not in the monitor's core dumps */
	GM_CONTROL_SET_NAME, /* (A) in /proc/PID/maps: "guest:" and @arg, or @name; 0: as it was */
	GM_CONTROL_MLOCK,    /* (A) populated, and never swapped */
	GM_CONTROL_MUNLOCK,  /* (A) what the guest locked */
	GM_CONTROL_PROTECT_NONE, /* (A) each access of the guest ends its run, ours are -EACCES */
	GM_CONTROL_PROTECT_R,    /* (A) each write does */
	GM_CONTROL_PROTECT_W,    /* (A) on x86 as PROTECT_RW */
	GM_CONTROL_PROTECT_RW,   /* (A) as it was */
	GM_CONTROL_MERGEABLE,    /* (A) KSM may merge equal pages */
	GM_CONTROL_UNMERGEABLE,  /* (A) it may not; merged ones become several again */

	GM_CONTROL_FEATURES = GM_CONTROL_OWN, /* value: GM_CONTROL_BIT()s that are allowed */
	GM_CONTROL_QUERY,       /* value: page size; arg0: bytes present; arg1: in huge pages */
	GM_CONTROL_WILLNEED,    /* read in what is swapped or in a file */
	GM_CONTROL_COLD,        /* reclaimed before others */
	GM_CONTROL_POPULATE,    /* filled with pages now */
	GM_CONTROL_COLLAPSE,    /* made huge pages now */
	GM_CONTROL_HUGE,        /* (A) huge pages from now on */
	GM_CONTROL_NOHUGE,      /* (A) base pages from now on */
	GM_CONTROL_NUMA_BIND,   /* (A) pages that come are of node @arg */
	GM_CONTROL_NUMA_PREFER, /* (A) of node @arg if it has some */
	GM_CONTROL_TEXT_NAME,   /* messages only: SET_NAME with 64 bytes of text at address @arg */
	GM_CONTROL_BATCH,       /* messages only: @len / 32 requests at @addr, answered there */
	GM_CONTROL_END,
};

#define GM_CONTROL_OWN_SLOT 16u
#define GM_CONTROL_SLOTS 32u
/* Where a code stands in masks and counts. */
#define GM_CONTROL_SLOT(code)                                                                      \
	(((uint32_t)(code)&15u) + ((code) < GM_CONTROL_OWN ? 0 : GM_CONTROL_OWN_SLOT))
#define GM_CONTROL_BIT(code) (UINT64_C(1) << GM_CONTROL_SLOT(code))

/* What gives memory back or only tells: the default. The others cost the host memory, or show. */
#define GM_CONTROL_SAFE                                                                            \
	(GM_CONTROL_BIT(GM_CONTROL_INFO) | GM_CONTROL_BIT(GM_CONTROL_DONTNEED) |                   \
		GM_CONTROL_BIT(GM_CONTROL_REMOVE) | GM_CONTROL_BIT(GM_CONTROL_FREE) |              \
		GM_CONTROL_BIT(GM_CONTROL_PAGEOUT) | GM_CONTROL_BIT(GM_CONTROL_DONTDUMP) |         \
		GM_CONTROL_BIT(GM_CONTROL_UNMERGEABLE) | GM_CONTROL_BIT(GM_CONTROL_FEATURES) |     \
		GM_CONTROL_BIT(GM_CONTROL_WILLNEED) | GM_CONTROL_BIT(GM_CONTROL_COLD) |            \
		GM_CONTROL_BIT(GM_CONTROL_BATCH))
#define GM_CONTROL_ALL                                                                             \
	(((UINT64_C(1) << 15) - 1) |                                                               \
		(GM_CONTROL_BIT(GM_CONTROL_END) - (UINT64_C(1) << GM_CONTROL_OWN_SLOT)))

/**
 * struct gm_control_request - one request
 * @code:  enum gm_control_code
 * @addr:  guest address; a multiple of the page size of what lies there, as @len is
 * @len:   bytes
 * @arg:   SET_NAME: a number, 0 takes the name away; NUMA: a node
 * @name:  SET_NAME: optional: text in place of @arg; borrowed. What the kernel does not allow in names
 *         becomes '_', and only 24 bytes are taken
 */
struct gm_control_request {
	uint64_t code;
	uint64_t addr;
	uint64_t len;
	uint64_t arg;
	const char *name;
};

/* gm_control_result.stage */
#define GM_CONTROL_DONE 0u
#define GM_CONTROL_REFUSED 1u /* by the checks or the policy: nothing was done */
#define GM_CONTROL_FAILED 2u  /* by the host, at @done */

/**
 * struct gm_control_result - what became of a request
 * @size:   sizeof(struct gm_control_result), set by the caller
 * @code:   0 or a negative errno value
 * @stage:  GM_CONTROL_DONE, _REFUSED, _FAILED
 * @done:   bytes that are as asked for; after a failure of (A) 0, unless undoing failed too
 * @value:  INFO, FEATURES, QUERY
 * @arg0:   INFO, QUERY
 * @arg1:   INFO, QUERY
 */
struct gm_control_result {
	size_t size;
	int32_t code;
	uint32_t stage;
	uint64_t done;
	uint64_t value;
	uint64_t arg0;
	uint64_t arg1;
};

/*
 * PROTECT_* also without the fault guard (guard.h): an access of this process to memory that the guest has
 * protected then kills it, unless it never makes one.
 */
#define GM_CONTROL_UNGUARDED 0x1u

/**
 * struct gm_control_opts - a policy; zero means default
 * @size:       sizeof(struct gm_control_opts)
 * @allow:      GM_CONTROL_BIT()s; 0 = GM_CONTROL_SAFE
 * @ranges:     @nr_ranges ranges of addresses that may be named, copied; NULL = all RAM
 * @nr_ranges:  their number, at most 64
 * @rate:       requests a second in the long run; 0 = any number
 * @burst:      requests at once; 0 = as @rate
 * @max_len:    bytes of a request; 0 = any
 * @max_locked: bytes that may be locked; 0 = 64 MiB
 * @numa_nodes: nodes that may be named, bit n for node n
 * @max_pieces: stretches that may differ from the rest of their mapping by (A); 0 = 1024. The kernel has
 *              65530 mappings for a process, and each stretch may take two
 * @flags:      GM_CONTROL_* bits
 * @now:        optional: nanoseconds of the clock for @rate; NULL = the monotonic one
 * @permit:     optional: asked when all checks are passed; 0, or a negative errno value. Called in
 *              the requesting thread with no lock held
 * @ctx:        passed to both
 */
struct gm_control_opts {
	size_t size;
	uint64_t allow;
	const struct gm_discard_range *ranges;
	size_t nr_ranges;
	uint64_t rate;
	uint64_t burst;
	uint64_t max_len;
	uint64_t max_locked;
	uint64_t numa_nodes;
	uint32_t max_pieces;
	uint32_t flags;
	uint64_t (*now)(void *ctx);
	int (*permit)(void *ctx, const struct gm_control_request *request);
	void *ctx;
};

/**
 * struct gm_control_info - what was asked for so far
 * @size:      sizeof(struct gm_control_info), set by the caller
 * @requests:  all
 * @refused:   of these by checks or policy
 * @throttled: of the refused, because of the rate
 * @failed:    by the host
 * @bytes:     that are as asked for
 * @locked:    bytes locked now
 * @pieces:    stretches that differ now
 * @undone:    stretches that a change of the map took away, and that were made normal before
 * @messages:  that came as messages
 * @unanswered: of these without a response: they could not be read, or the response not written
 * @counts:    requests that succeeded, by GM_CONTROL_SLOT()
 */
struct gm_control_info {
	size_t size;
	uint64_t requests;
	uint64_t refused;
	uint64_t throttled;
	uint64_t failed;
	uint64_t bytes;
	uint64_t locked;
	uint64_t pieces;
	uint64_t undone;
	uint64_t messages;
	uint64_t unanswered;
	uint64_t counts[GM_CONTROL_SLOTS];
};

/**
 * gm_control_create() - let a guest's requests be done on a space
 * @space: borrowed; must outlive it; neither a grant's nor an IOVA space
 * @opts:  borrowed, copied; NULL = defaults
 * @ret:   destroyed with gm_control_destroy()
 * @err:   optional
 *
 * It is a listener of the space, so that what goes is made normal before. One for a space.
 * Returns 0, -EINVAL, -E2BIG, -EEXIST (it has one), -EPERM (the space of a grant), -EBUSY (a
 * transaction is open), -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_control_create(struct gm_space *space, const struct gm_control_opts *opts,
	struct gm_control **ret, struct gm_error *err);

/**
 * gm_control_destroy() - make all memory normal again
 * @control: taken, unless the call fails; NULL is ignored
 * @err:     optional
 *
 * Protection, locks, names, NUMA policy and the rest of (A) are undone; advice for huge pages stays.
 * Returns 0 or -EBUSY (a transaction is open) or -ENOMEM; then it goes on.
 * Threads: owner only. Since: 0.1.
 */
GM_API int gm_control_destroy(struct gm_control *control, struct gm_error *err);

/**
 * gm_control_request() - check and do one request
 * @control: borrowed
 * @request: borrowed; read once
 * @ret:     filled in
 * @err:     optional; for the host's eyes
 *
 * Returns 0, or what ret->code says: -EOPNOTSUPP (no such code); -EPERM (not allowed: code, range, node, or
 * memory that the monitor keeps locked); -EAGAIN (rate); -EINVAL (length 0, misaligned); -ERANGE (wraps);
 * -EFAULT (not all of it is RAM); -EACCES (not writable, or the guest's alone); -E2BIG (@max_len; over 64 pieces of the
 * map); -ENOMEM (@max_locked); -ENOSPC (@max_pieces); -ENOTSUP (not with this backing); -EBUSY
 * (the map is being changed, or a discard is inhibited: ask again); what permit() returned; or what
 * the kernel answered.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_control_request(struct gm_control *control, const struct gm_control_request *request,
	struct gm_control_result *ret, struct gm_error *err);

/**
 * gm_control_batch() - the same for several; neighbours become one
 * @control:  borrowed
 * @requests: @nr of them, borrowed
 * @nr:       their number
 * @rets:     @nr results, filled in
 *
 * In order. Requests that follow one another in the array and in addresses and ask for the same are
 * done as one, so that base pages which are a huge page together are that; if it fails, one by one. Returns
 * the number that succeeded.
 * Threads: any. Since: 0.1.
 */
GM_API size_t gm_control_batch(struct gm_control *control,
	const struct gm_control_request *requests, size_t nr, struct gm_control_result *rets);

/**
 * gm_control_info() - what was done so far
 * @control: borrowed
 * @ret:     filled in
 *
 * Returns 0 or -EINVAL (size). Threads: any. Since: 0.1.
 */
GM_API int gm_control_info(struct gm_control *control, struct gm_control_info *ret);

/**
 * gm_control_lift() - undo protection, so that a vCPU that met it can go on
 * @control:   borrowed
 * @gpa:       first address
 * @len:       bytes; 0 = to the end of the address space
 * @ret_bytes: optional: bytes that were protected
 *
 * Returns 0, -ERANGE, -EBUSY (the map is being changed), or what the kernel answered. Threads: any. Since: 0.1.
 */
GM_API int gm_control_lift(
	struct gm_control *control, uint64_t gpa, uint64_t len, uint64_t *ret_bytes);

#ifdef __cplusplus
}
#endif

#endif
