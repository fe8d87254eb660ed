/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inline/plain.h - what the macros of object.h consist of: which types may go to a guest. Not for direct use.
 *
 * C is asked by __builtin_classify_type() and the types of expressions, dimension by dimension; C++ by templates.
 */
#ifndef GUESTMEM_INLINE_PLAIN_H
#define GUESTMEM_INLINE_PLAIN_H

#include <stddef.h>

/* What is said of an object and of a field. */
#define GM_PLAIN_WRONG "no pointer, bool, union, long double or padding goes to a guest"

#ifdef __cplusplus

#if defined(__has_builtin)
#if __has_builtin(__builtin_bit_cast)
#define GM_PLAIN_BIT_CAST 1
#endif
#endif

/*
 * No padding at all, within fields as well. Fields of floating point have more than one representation of
 * some values; if there are any, the compiler tries whether each byte of an object has a value.
 */
template <size_t N> struct gm_plain_bytes {
	signed char byte[N];
};
template <typename T, typename = void> struct gm_plain_whole {
	static constexpr bool ok = __has_unique_object_representations(T);
};
#if defined(GM_PLAIN_BIT_CAST)
template <bool> struct gm_plain_if;
template <> struct gm_plain_if<true> {
	typedef void type;
};
template <typename T> constexpr bool gm_plain_cast()
{
	return __builtin_bit_cast(gm_plain_bytes<sizeof(T)>, T{}).byte[0] == 0;
}
/* To g++ all bytes of a long double have values; only its alignment tells. */
template <typename T>
struct gm_plain_whole<T, typename gm_plain_if<gm_plain_cast<T>() || true>::type> {
#if defined(__clang__)
	static constexpr bool ok = true;
#else
	static constexpr bool ok =
		__has_unique_object_representations(T) || alignof(T) < alignof(long double);
#endif
};
#endif

template <typename T> struct gm_plain {
	static constexpr bool ok = __is_trivially_copyable(T) && !__is_union(T) &&
				   gm_plain_whole<T>::ok && __builtin_classify_type(*(T *)0) != 9;
};
template <> struct gm_plain<float> {
	static constexpr bool ok = true;
};
template <> struct gm_plain<double> {
	static constexpr bool ok = true;
};
template <> struct gm_plain<long double> {
	static constexpr bool ok = false;
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
	static_assert(gm_plain<T>::ok, GM_PLAIN_WRONG);
	return sizeof(T);
}

#define GM_OBJECT_SIZE(ptr) gm_object_size(ptr)
#define GM_PLAIN_ASSERT(is, what) static_assert(is, what)
#define GM_PLAIN_IS_VALUE(type, field) gm_plain<decltype(((type *)0)->field)>::ok

#else

/* An array or pointer as it is, and a pointer instead of any other thing. */
#define GM_PLAIN_LIST(x) __builtin_choose_expr(__builtin_classify_type(x) == 5, (x), (char *)0)
/* An array is not of the type that it has in an expression; a pointer is. */
#define GM_PLAIN_IS_POINTER(x)                                                                     \
	__builtin_types_compatible_p(__typeof__(x), __typeof__(((void)0, GM_PLAIN_LIST(x))))
/* The first element of an array, and a character instead of any other thing. */
#define GM_PLAIN_ITEM(x)                                                                           \
	(__builtin_choose_expr(                                                                    \
		__builtin_classify_type(x) == 5 && !GM_PLAIN_IS_POINTER(x), (x), (char *)0)[0])
/* Class 8 is floating point, which has padding where it is wider than double; 9 complex numbers, 13 unions. */
#define GM_PLAIN_IS_WIDE(x)                                                                        \
	(sizeof(__builtin_choose_expr(__builtin_classify_type(x) == 8, (x), 0.0)) > sizeof(double))
#define GM_PLAIN_IS_BAD(x)                                                                         \
	(GM_PLAIN_IS_POINTER(x) || __builtin_types_compatible_p(__typeof__(x), _Bool) ||           \
		__builtin_classify_type(x) == 13 || __builtin_classify_type(x) == 9 ||             \
		GM_PLAIN_IS_WIDE(x))

/* An array of up to two dimensions, or none. */
#define GM_PLAIN_IS_VALUE(type, field) GM_PLAIN_IS_VALUE_OF(((type *)0)->field)
#define GM_PLAIN_IS_VALUE_OF(x)                                                                    \
	(!GM_PLAIN_IS_BAD(x) && !GM_PLAIN_IS_BAD(GM_PLAIN_ITEM(x)) &&                              \
		!GM_PLAIN_IS_BAD(GM_PLAIN_ITEM(GM_PLAIN_ITEM(x))) &&                               \
		__builtin_classify_type(GM_PLAIN_ITEM(GM_PLAIN_ITEM(x))) != 5)

#define GM_PLAIN_ASSERT(is, what) _Static_assert(is, what)
#define GM_OBJECT_SIZE(ptr)                                                                        \
	(sizeof(*(ptr)) + 0 * sizeof(struct {                                                      \
		_Static_assert(!__builtin_types_compatible_p(__typeof__(*(ptr)), void) &&          \
				       GM_PLAIN_IS_VALUE_OF(*(ptr)),                               \
			GM_PLAIN_WRONG);                                                           \
		char unused;                                                                       \
	}))

#endif

#define GM_PLAIN_END(type, field) (offsetof(type, field) + sizeof(((type *)0)->field))

/* @end: where the field before ends. */
#define GM_PLAIN_FIELD(type, end, field)                                                           \
	GM_PLAIN_ASSERT(offsetof(type, field) == (end),                                            \
		#type ": padding or another field before " #field);                                \
	GM_PLAIN_ASSERT(GM_PLAIN_IS_VALUE(type, field), #type "." #field ": " GM_PLAIN_WRONG)

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

#endif
