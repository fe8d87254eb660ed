/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inline/object.h - bodies of object.h, and what its macros consist of. Included by it. Not for direct use.
 *
 * The short way is all elements in one span of the window. All else, a fault as well, is decided out
 * of line.
 */
#ifndef GUESTMEM_INLINE_OBJECT_H
#define GUESTMEM_INLINE_OBJECT_H

#ifdef __cplusplus

template <typename T> struct gm_plain {
	static constexpr bool ok = __is_trivially_copyable(T);
};
template <> struct gm_plain<bool> {
	static constexpr bool ok = false;
};
template <typename T> struct gm_plain<T *> {
	static constexpr bool ok = false;
};
template <typename T> struct gm_plain<T &> {
	static constexpr bool ok = false;
};
template <typename T, typename C> struct gm_plain<T C::*> {
	static constexpr bool ok = false;
};
template <typename T> struct gm_plain<const T> : gm_plain<T> {
};
template <typename T> struct gm_plain<volatile T> : gm_plain<T> {
};
template <typename T> struct gm_plain<const volatile T> : gm_plain<T> {
};
template <typename T, size_t N> struct gm_plain<T[N]> : gm_plain<T> {
};
template <typename T, size_t N> struct gm_plain<const T[N]> : gm_plain<T> {
};

template <typename T> constexpr size_t gm_object_size(const volatile T *)
{
	static_assert(gm_plain<T>::ok, "neither pointers nor bools go to guests");
	return sizeof(T);
}

#define GM_OBJECT_SIZE(ptr) gm_object_size(ptr)
#define GM_PLAIN_ASSERT(is, what) static_assert(is, what)
#define GM_PLAIN_IS_VALUE(type, field) gm_plain<decltype(((type *)0)->field)>::ok

#else

/* An array or pointer as it is, and what may be subscripted instead of any other thing. */
#define GM_PLAIN_LIST(x) __builtin_choose_expr(__builtin_classify_type(x) == 5, (x), (char *)0)
/* An array is not of the type of the pointer to its first element; a pointer is. */
#define GM_PLAIN_IS_POINTER(x)                                                                     \
	__builtin_types_compatible_p(__typeof__(x), __typeof__(&GM_PLAIN_LIST(x)[0]))
#define GM_PLAIN_IS_BAD(x)                                                                         \
	(GM_PLAIN_IS_POINTER(x) || __builtin_types_compatible_p(__typeof__(x), _Bool))

#define GM_PLAIN_IS_VALUE(type, field) GM_PLAIN_IS_VALUE_OF(((type *)0)->field)
#define GM_PLAIN_IS_VALUE_OF(x)                                                                    \
	(!GM_PLAIN_IS_BAD(x) && !GM_PLAIN_IS_BAD(GM_PLAIN_LIST(x)[0]) &&                           \
		!GM_PLAIN_IS_BAD(GM_PLAIN_LIST(GM_PLAIN_LIST(x)[0])[0]))

#define GM_PLAIN_ASSERT(is, what) _Static_assert(is, what)
#define GM_OBJECT_SIZE(ptr)                                                                        \
	(sizeof(*(ptr)) + 0 * sizeof(struct {                                                      \
		_Static_assert(!__builtin_types_compatible_p(__typeof__(*(ptr)), void) &&          \
				       !GM_PLAIN_IS_BAD(*(ptr)),                                   \
			"neither pointers nor bools go to guests");                                \
		char unused;                                                                       \
	}))

#endif

#define GM_PLAIN_END(type, field) (offsetof(type, field) + sizeof(((type *)0)->field))

/* @end: where the field before ends. */
#define GM_PLAIN_FIELD(type, end, field)                                                           \
	GM_PLAIN_ASSERT(offsetof(type, field) == (end),                                            \
		#type ": padding or another field before " #field);                                \
	GM_PLAIN_ASSERT(GM_PLAIN_IS_VALUE(type, field), #type "." #field ": a pointer or a bool")

#define GM_PLAIN_PICK(f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13, f14, f15, f16, f17,  \
	f18, f19, f20, f21, f22, f23, f24, name, ...)                                              \
	name
#define GM_PLAIN_1(type, end, field)                                                               \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_ASSERT(GM_PLAIN_END(type, field) == sizeof(type),                                 \
		#type ": padding or another field behind " #field)
#define GM_PLAIN_2(type, end, field, ...)                                                          \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_1(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_3(type, end, field, ...)                                                          \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_2(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_4(type, end, field, ...)                                                          \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_3(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_5(type, end, field, ...)                                                          \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_4(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_6(type, end, field, ...)                                                          \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_5(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_7(type, end, field, ...)                                                          \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_6(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_8(type, end, field, ...)                                                          \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_7(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_9(type, end, field, ...)                                                          \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_8(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_10(type, end, field, ...)                                                         \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_9(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_11(type, end, field, ...)                                                         \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_10(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_12(type, end, field, ...)                                                         \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_11(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_13(type, end, field, ...)                                                         \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_12(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_14(type, end, field, ...)                                                         \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_13(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_15(type, end, field, ...)                                                         \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_14(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_16(type, end, field, ...)                                                         \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_15(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_17(type, end, field, ...)                                                         \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_16(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_18(type, end, field, ...)                                                         \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_17(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_19(type, end, field, ...)                                                         \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_18(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_20(type, end, field, ...)                                                         \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_19(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_21(type, end, field, ...)                                                         \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_20(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_22(type, end, field, ...)                                                         \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_21(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_23(type, end, field, ...)                                                         \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_22(type, GM_PLAIN_END(type, field), __VA_ARGS__)
#define GM_PLAIN_24(type, end, field, ...)                                                         \
	GM_PLAIN_FIELD(type, end, field);                                                          \
	GM_PLAIN_23(type, GM_PLAIN_END(type, field), __VA_ARGS__)

#if !defined(GM_NO_INLINE) || defined(GM_BUILD_INLINE)

#ifdef __cplusplus
extern "C" {
#endif

#if GM_GUARDED

GM_SHARED int gm_find_read_array(
	const struct gm_view *view, uint64_t gpa, void *buf, size_t size, size_t nr, size_t *done)
{
	void *hva;
	size_t len;

	if (__builtin_mul_overflow(size, nr, &len) || len == 0 ||
		!gm_view_find(view, gpa, len, GM_PERM_R, &hva) ||
		gm_guard_copy_from(buf, hva, len, NULL))
		return gm_read_array_slow(view, gpa, buf, size, nr, done);
	if (done)
		*done = nr;
	return 0;
}

GM_INLINE int gm_read_array(
	const struct gm_view *view, uint64_t gpa, void *buf, size_t size, size_t nr, size_t *done)
{
	size_t len;

	if (__builtin_expect(__builtin_mul_overflow(size, nr, &len) || len == 0 ||
				     !gm_view_is_hot(view, gpa, len) ||
				     !gm_copy_in(buf, gm_view_hot(view, gpa), len),
		    0))
		return gm_find_read_array(view, gpa, buf, size, nr, done);
	if (done)
		*done = nr;
	return 0;
}

GM_SHARED int gm_find_write_array(const struct gm_view *view, uint64_t gpa, const void *buf,
	size_t size, size_t nr, size_t *done)
{
	void *hva;
	size_t len;

	if (__builtin_mul_overflow(size, nr, &len) || len == 0 ||
		!gm_view_find(view, gpa, len, GM_PERM_W, &hva) ||
		gm_guard_copy_to(hva, buf, len, NULL))
		return gm_write_array_slow(view, gpa, buf, size, nr, done);
	if (__builtin_expect(!gm_view_marked(view, gpa, len), 0))
		gm_view_mark(view, gpa, len);
	if (done)
		*done = nr;
	return 0;
}

GM_INLINE int gm_write_array(const struct gm_view *view, uint64_t gpa, const void *buf, size_t size,
	size_t nr, size_t *done)
{
	size_t len;

	if (__builtin_expect(__builtin_mul_overflow(size, nr, &len) || len == 0 ||
				     !gm_view_is_hot(view, gpa, len) ||
				     !gm_copy_out(gm_view_hot(view, gpa), buf, len),
		    0))
		return gm_find_write_array(view, gpa, buf, size, nr, done);
	if (__builtin_expect(!gm_view_marked(view, gpa, len), 0))
		gm_view_mark(view, gpa, len);
	if (done)
		*done = nr;
	return 0;
}

#else

GM_INLINE int gm_read_array(
	const struct gm_view *view, uint64_t gpa, void *buf, size_t size, size_t nr, size_t *done)
{
	return gm_read_array_slow(view, gpa, buf, size, nr, done);
}

GM_INLINE int gm_write_array(const struct gm_view *view, uint64_t gpa, const void *buf, size_t size,
	size_t nr, size_t *done)
{
	return gm_write_array_slow(view, gpa, buf, size, nr, done);
}

#endif

#ifdef __cplusplus
}
#endif

#endif

#endif
