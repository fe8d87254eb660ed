/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listener.h - keeping others in step with a space: slots of KVM, tables of peers, IOMMUs, logs.
 *
 * A listener is told the sections of the flattened map that go and come with each commit, no more.
 * It may refuse a change before anything is done. Callbacks run in the thread that commits, with no
 * lock of the library held; there no transaction can be begun (-EBUSY), and no listener made or
 * removed.
 */
#ifndef GUESTMEM_LISTENER_H
#define GUESTMEM_LISTENER_H

#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_listener;

/**
 * struct gm_section - a stretch of the flattened map, as a listener is told it
 * @gpa:       first address
 * @len:       bytes; 0 = 2^64
 * @kind:      enum gm_region_kind
 * @perms:     GM_PERM_* bits
 * @hva:       host address of the first byte; NULL for what is no memory or is not mapped
 * @block:     its memory, borrowed while the section is in the listener's map; NULL if none
 * @block_off: byte of @block at @gpa
 * @id:        number of the region that shows; of the first, if sections were joined
 * @off:       where in that region it begins
 * @label:     of that region
 * @private_block: its private block, borrowed as @block; NULL if none
 * @private_off: byte of @private_block at @gpa
 * @part:      with GM_LISTENER_PARTS: enum gm_part, shared or private; if private, @block is the
 *             private block and @hva NULL. Else 0
 */
struct gm_section {
	uint64_t gpa;
	uint64_t len;
	uint32_t kind;
	uint32_t perms;
	void *hva;
	struct gm_block *block;
	uint64_t block_off;
	uint64_t id;
	uint64_t off;
	uint64_t label;
	struct gm_block *private_block;
	uint64_t private_off;
	uint32_t part;
	uint32_t reserved;
};

/* What a difference does with a section. */
enum gm_change_kind {
	GM_CHANGE_REMOVE,
	GM_CHANGE_ADD,
	GM_CHANGE_PERMS, /* the same memory in the same place, with other permissions */
};

/**
 * struct gm_change - one step of a difference
 * @kind:    enum gm_change_kind
 * @perms:   with GM_CHANGE_PERMS: what they were
 * @section: as it was (removed) or will be
 */
struct gm_change {
	uint32_t kind;
	uint32_t perms;
	struct gm_section section;
};

/* How neighbouring sections of one kind with the same permissions are joined. */
enum gm_join {
	GM_JOIN_NONE = 0, /* one for each stretch of a region */
	GM_JOIN_HOST,     /* if they are neighbours in host addresses too */
	GM_JOIN_FILE,     /* if they are also neighbours in one block */
};

/*
 * It is told parts of regions (part.h) by their state: one section for each run that is shared or
 * private, none for what is unplugged. Without it a region is told as if all of it were shared, so
 * that it takes one section however it is cut up.
 */
#define GM_LISTENER_PARTS 0x1u

/* gm_discard_event.phase */
enum gm_discard_phase {
	GM_DISCARD_ASK = 0, /* nothing has been done: it may be refused */
	GM_DISCARD_DONE,    /* it has been done, or has failed on the way (code) */
	GM_DISCARD_DROPPED, /* after an ASK: it will not be done */
};

/**
 * struct gm_discard_event - bytes that are going to be, or were, given back (discard.h)
 * @phase:     enum gm_discard_phase
 * @mode:      enum gm_discard_mode: NOW, LAZY or ZERO; others keep the bytes and are not told
 * @flags:     GM_DISCARD_COORDINATED: who listens for parts has no section there
 * @code:      with GM_DISCARD_DONE: 0, or why it failed: then any of it may be gone
 * @gpa:       first address: whole pages of one block
 * @len:       bytes
 * @hva:       host address, or NULL
 * @block:     borrowed for the call
 * @block_off: byte of @block at @gpa
 */
struct gm_discard_event {
	uint32_t phase;
	uint32_t mode;
	uint32_t flags;
	int32_t code;
	uint64_t gpa;
	uint64_t len;
	void *hva;
	struct gm_block *block;
	uint64_t block_off;
};

#define GM_KIND_BIT(kind) (1u << (kind))
#define GM_KINDS_MEMORY                                                                            \
	(GM_KIND_BIT(GM_REGION_RAM) | GM_KIND_BIT(GM_REGION_ROM) | GM_KIND_BIT(GM_REGION_ROMD) |   \
		GM_KIND_BIT(GM_REGION_PMEM) | GM_KIND_BIT(GM_REGION_ACPI) |                        \
		GM_KIND_BIT(GM_REGION_DEVMEM))
#define GM_KINDS_ALL UINT32_MAX

/**
 * struct gm_listener_ops - a listener; zero means default
 * @size:         sizeof(struct gm_listener_ops)
 * @name:         copied (31 bytes); named in errors
 * @priority:     lower ones are given sections first, and lose them last
 * @kinds:        GM_KIND_BIT()s that it is told of; 0 = GM_KINDS_MEMORY
 * @enforces:     GM_PERM_* bits that it can keep a guest or peer from using; for gm_listener_info()
 * @join:         enum gm_join
 * @max_sections: more are refused (-ENOSPC) before anybody is asked; 0 = any number
 * @prepare:      optional: may refuse the @nr changes with a negative error, and say why in the text of
 *                @err (which may be NULL); nothing has been done yet. @changes is borrowed. Host
 *                addresses are where memory is expected
 * @remove:       optional: the section goes; its memory stays until this returns, at least
 * @add:          optional: the section comes; may refuse. After a refusal, its own or a later one's,
 *                the listener loses what it was given and is given again what it had lost: then it
 *                must not refuse; if it does all the same, gm_listener_info() tells
 * @change:       optional: other permissions; may refuse; if NULL it is a remove and an add, unless
 *                these are NULL too
 * @commit:       optional: the new map is published
 * @abort:        optional: after a prepare that was not refused: nothing has changed after all
 * @ctx:          passed to each
 * @flags:        GM_LISTENER_* bits
 * @discard:      optional: asked in falling priority before bytes of its kinds are given back, and may
 *                refuse; told in rising priority afterwards. While there is such a listener discards
 *                take turns with each other and with changes of the map
 */
struct gm_listener_ops {
	size_t size;
	const char *name;
	int32_t priority;
	uint32_t kinds;
	uint32_t enforces;
	uint32_t join;
	uint64_t max_sections;
	int (*prepare)(void *ctx, const struct gm_change *changes, size_t nr, struct gm_error *err);
	void (*remove)(void *ctx, const struct gm_section *section);
	int (*add)(void *ctx, const struct gm_section *section, struct gm_error *err);
	int (*change)(void *ctx, const struct gm_section *section, uint32_t old_perms,
		struct gm_error *err);
	void (*commit)(void *ctx, uint64_t generation);
	void (*abort)(void *ctx);
	void *ctx;
	uint32_t flags;
	uint32_t reserved;
	int (*discard)(void *ctx, const struct gm_discard_event *event, struct gm_error *err);
};

/**
 * struct gm_listener_info - a listener as it is
 * @size:       sizeof(struct gm_listener_info), set by the caller
 * @sections:   number that it has
 * @unenforced: GM_PERM_* bits that some section withholds and the listener cannot enforce
 * @lost:       sections that it refused to take back after a failed commit; 0 unless it is broken
 */
struct gm_listener_info {
	size_t size;
	uint64_t sections;
	uint64_t lost;
	uint32_t unenforced;
	uint32_t reserved;
};

/**
 * gm_listener_create() - begin to tell somebody of a space's map
 * @space:        borrowed; must outlive the listener
 * @ops:          borrowed, copied
 * @ret_listener: the listener, destroyed with gm_listener_destroy()
 * @err:          optional
 *
 * All sections of the map as it is come first: prepare, add of each, commit.
 * Returns 0, -EINVAL, -EBUSY (a transaction is open), -ENOSPC (max_sections), -ENOMEM, or what a
 * callback returned; then all that was added has been removed.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_listener_create(struct gm_space *space, const struct gm_listener_ops *ops,
	struct gm_listener **ret_listener, struct gm_error *err);

/**
 * gm_listener_destroy() - stop telling
 * @listener: taken, unless the call fails; NULL is ignored
 * @err:      optional
 *
 * All sections are removed first, the last one first.
 * Returns 0, -EBUSY (a transaction is open) or -ENOMEM; then it goes on.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_listener_destroy(struct gm_listener *listener, struct gm_error *err);

/**
 * gm_listener_info() - describe a listener
 * @listener: borrowed
 * @ret_info: filled in
 *
 * Returns 0, -EINVAL (size), -EBUSY (a transaction is open), -ENOMEM.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_listener_info(struct gm_listener *listener, struct gm_listener_info *ret_info);

#ifdef __cplusplus
}
#endif

#endif
