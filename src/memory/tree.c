/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tree.c - the children of a node, by address.
 *
 * A treap: a search tree by first address that is a heap by a number drawn from the node's own, so
 * that its depth is logarithmic whatever the order of insertion. Each node knows the highest address
 * below it, so that those which meet a range are found although they overlap.
 */
#include "memory/node.h"

/* Mixes a number's bits well (the finishing step of MurmurHash3). */
static uint64_t weight(const struct gm_node *node)
{
	uint64_t n = node->id;

	n = (n ^ (n >> 33)) * UINT64_C(0xff51afd7ed558ccd);
	n = (n ^ (n >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
	return n ^ (n >> 33);
}

static bool before(const struct gm_node *a, const struct gm_node *b)
{
	if (a->s.range.first != b->s.range.first)
		return a->s.range.first < b->s.range.first;
	return a->id < b->id;
}

static void update(struct gm_node *node)
{
	node->max_last = node->s.range.last;
	if (node->left && node->left->max_last > node->max_last)
		node->max_last = node->left->max_last;
	if (node->right && node->right->max_last > node->max_last)
		node->max_last = node->right->max_last;
}

/* Parts a tree into what lies before @at and behind it. */
static void split(struct gm_node *root, const struct gm_node *at, struct gm_node **ret_left,
	struct gm_node **ret_right)
{
	if (!root) {
		*ret_left = *ret_right = NULL;
	} else if (before(root, at)) {
		split(root->right, at, &root->right, ret_right);
		update(root);
		*ret_left = root;
	} else {
		split(root->left, at, ret_left, &root->left);
		update(root);
		*ret_right = root;
	}
}

/* All of @a lies before all of @b. */
static struct gm_node *merge(struct gm_node *a, struct gm_node *b)
{
	struct gm_node *top = !b || (a && weight(a) > weight(b)) ? a : b;

	if (!a || !b)
		return top;
	if (top == a)
		a->right = merge(a->right, b);
	else
		b->left = merge(a, b->left);
	update(top);
	return top;
}

static struct gm_node *insert(struct gm_node *root, struct gm_node *node)
{
	if (!root || weight(node) > weight(root)) {
		split(root, node, &node->left, &node->right);
		root = node;
	} else if (before(node, root)) {
		root->left = insert(root->left, node);
	} else {
		root->right = insert(root->right, node);
	}
	update(root);
	return root;
}

static struct gm_node *take_out(struct gm_node *root, const struct gm_node *node)
{
	if (root == node)
		return merge(root->left, root->right);
	if (before(node, root))
		root->left = take_out(root->left, node);
	else
		root->right = take_out(root->right, node);
	update(root);
	return root;
}

void gm_tree_link(struct gm_node *node)
{
	struct gm_node *parent = node->s.parent;

	if (parent)
		parent->children = insert(parent->children, node);
}

void gm_tree_unlink(struct gm_node *node)
{
	struct gm_node *parent = node->s.parent;

	if (parent)
		parent->children = take_out(parent->children, node);
	node->left = node->right = NULL;
}

static int each(const struct gm_node *root, const struct gm_range *range,
	int (*fn)(void *ctx, struct gm_node *child), void *ctx)
{
	int rc;

	if (!root || root->max_last < range->first)
		return 0;
	rc = each(root->left, range, fn, ctx);
	if (!rc && gm_range_overlaps(&root->s.range, range))
		rc = fn(ctx, (struct gm_node *)(uintptr_t)root);
	if (!rc && root->s.range.first <= range->last)
		rc = each(root->right, range, fn, ctx);
	return rc;
}

int gm_tree_each(const struct gm_node *parent, const struct gm_range *range,
	int (*fn)(void *ctx, struct gm_node *child), void *ctx)
{
	return each(parent->children, range, fn, ctx);
}
