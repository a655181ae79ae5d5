#pragma once

#include <array>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <arke/base/bytes.hpp>
#include <arke/base/compile.hpp>
#include <arke/event/event_view.hpp>

/// C++ values and their wire form.
///
///     you send                                        it travels as
///     a literal, char*, string, string_view           text, which must be UTF-8
///     bool                                            boolean: true, false
///     an integer of up to 64 bits                     integer: decimal
///     float, double                                   JSON: the shortest number that reads back the same
///     bytes, bytes_view, array<byte, N>               bytes, raw
///     nullptr                                         JSON: null
///     nlohmann::json, whatever it converts            JSON
///     nothing                                         text, empty
///
/// Reading goes by what the receiver asks for, not by what the sender said (see value_kind): decode_value().
/// Everything here is pure and may be called from any thread.
namespace arke {

/// Bounds of what is read from a peer.
struct decode_limits {
    unsigned max_json_depth = 128;  ///< Levels of nesting in JSON. One more is refused before anything is parsed.
};

/// The wire form of one value.
///
/// It views the value that it was made from where that is text or bytes, so it lives no longer than that; numbers are
/// held inside, JSON is owned. Copies and moves freely.
class encoded_value {
public:
    /// No value: empty text.
    encoded_value() noexcept = default;

    /// Data that somebody else owns and that is in the form of its kind already.
    static encoded_value borrowed(value_kind kind, std::string_view data) noexcept {
        encoded_value made;
        made.kind_ = kind;
        made.view_ = data;
        return made;
    }

    /// Data of its own, in the form of its kind already.
    static encoded_value owned(value_kind kind, std::string data) noexcept {
        encoded_value made;
        made.kind_ = kind;
        made.place_ = place::owned;
        made.text_ = std::move(data);
        return made;
    }

    /// A finite number in its shortest decimal form.
    template <class Number>
    static encoded_value number(value_kind kind, Number value) noexcept {
        encoded_value made;
        made.kind_ = kind;
        made.place_ = place::inside;
        const auto end = std::to_chars(made.digits_.data(), made.digits_.data() + made.digits_.size(), value).ptr;
        made.size_ = static_cast<std::uint8_t>(end - made.digits_.data());
        return made;
    }

    value_kind kind() const noexcept { return kind_; }

    /// The data. Views this object, or what it was made from.
    std::string_view data() const noexcept {
        switch (place_) {
            case place::inside: return {digits_.data(), size_};
            case place::owned: return text_;
            case place::elsewhere: break;
        }
        return view_;
    }

private:
    enum class place : std::uint8_t { elsewhere, inside, owned };

    value_kind kind_ = value_kind::text;
    place place_ = place::elsewhere;
    std::uint8_t size_ = 0;
    std::array<char, 40>
        digits_;  // left unset; the longest is a long double of 21 digits with sign, point and exponent
    std::string_view view_;
    std::string text_;
};

namespace detail {

/// What a type is to us, as far as the type alone can say.
enum class shape {
    text,
    boolean,
    integer,
    floating,
    bytes,
    null,
    json,  // these travel
    character,
    foreign_text,
    foreign_bytes,
    pointer,
    enumeration,
    unknown,  // these are refused, each by a sentence
};

constexpr bool travels(shape s) { return s <= shape::json; }

template <class T>
inline constexpr bool always_false = false;

template <class T>
concept character = std::same_as<T, char> || std::same_as<T, wchar_t> || std::same_as<T, char8_t> ||
    std::same_as<T, char16_t> || std::same_as<T, char32_t>;

template <class T>
struct text_unit {
    using type = void;
};
template <class T>
struct text_unit<T*> {
    using type = std::remove_cv_t<T>;
};
template <class T, class Traits, class Allocator>
struct text_unit<std::basic_string<T, Traits, Allocator>> {
    using type = T;
};
template <class T, class Traits>
struct text_unit<std::basic_string_view<T, Traits>> {
    using type = T;
};

/// Strings of characters that are not char. nlohmann would make arrays of numbers of them.
template <class T>
concept foreign_text = character<typename text_unit<std::decay_t<T>>::type> &&
    !std::same_as<typename text_unit<std::decay_t<T>>::type, char>;

template <class T>
inline constexpr bool is_string = false;
template <class Traits, class Allocator>
inline constexpr bool is_string<std::basic_string<char, Traits, Allocator>> = true;

template <class T>
inline constexpr bool is_json = nlohmann::detail::is_basic_json<T>::value;

namespace own_json {

void to_json();  // these two end the unqualified look-up here, so that only those of the user's namespace are found
void from_json();

template <class T>
concept writes = requires(nlohmann::json& j, const T& value) {
    to_json(j, value);
}
|| !requires { &nlohmann::adl_serializer<T>::template to_json<nlohmann::json, const T&>; };
template <class T>
concept reads = requires(const nlohmann::json& j, T& value) {
    from_json(j, value);
}
|| !requires { &nlohmann::adl_serializer<T>::template from_json<const nlohmann::json&, T>; };

}  // namespace own_json

template <class T>
consteval shape shape_to_send() {
    if constexpr (std::is_void_v<T>)
        return shape::unknown;
    else if constexpr (is_json<T>)
        return shape::json;
    else if constexpr (std::same_as<T, std::nullptr_t>)
        return shape::null;
    else if constexpr (std::same_as<T, bool> || std::same_as<T, std::vector<bool>::reference>)
        return shape::boolean;
    else if constexpr (character<T>)
        return shape::character;
    else if constexpr (std::integral<T>)
        return sizeof(T) <= 8 ? shape::integer : shape::unknown;
    else if constexpr (std::floating_point<T>)
        return shape::floating;
    else if constexpr (foreign_text<T>)
        return shape::foreign_text;
    else if constexpr (std::is_convertible_v<const T&, std::string_view>)
        return shape::text;
    else if constexpr (std::is_convertible_v<const T&, bytes_view>)
        return shape::bytes;
    else if constexpr (std::is_pointer_v<T> || std::is_function_v<T> || std::is_member_pointer_v<T>)
        return shape::pointer;
    else if constexpr (std::is_enum_v<T>) {
        // nlohmann takes any enum for its number; that silently fixes the order of the enumerators on the wire
        if constexpr (own_json::writes<T>)
            return shape::json;
        else
            return shape::enumeration;
    } else if constexpr (std::is_constructible_v<nlohmann::json, const T&>)
        return shape::json;
    else
        return shape::unknown;
}

template <class T>
consteval shape shape_to_read() {
    if constexpr (std::is_void_v<T>)
        return shape::unknown;
    else if constexpr (is_json<T>)
        return shape::json;
    else if constexpr (std::same_as<T, bool>)
        return shape::boolean;
    else if constexpr (character<T>)
        return shape::character;
    else if constexpr (std::integral<T>)
        return sizeof(T) <= 8 ? shape::integer : shape::unknown;
    else if constexpr (std::floating_point<T>)
        return shape::floating;
    else if constexpr (is_string<T> || std::same_as<T, std::string_view>)
        return shape::text;
    else if constexpr (foreign_text<T>)
        return shape::foreign_text;
    else if constexpr (std::same_as<T, bytes> || std::same_as<T, bytes_view>)
        return shape::bytes;
    else if constexpr (std::is_pointer_v<T> || std::is_member_pointer_v<T>)
        return shape::pointer;
    else if constexpr (std::is_convertible_v<const T&, bytes_view>)
        return shape::foreign_bytes;
    else if constexpr (std::is_enum_v<T>) {
        if constexpr (own_json::reads<T>)
            return shape::json;
        else
            return shape::enumeration;
    } else if constexpr (requires(const nlohmann::json& j) { j.template get<T>(); })
        return shape::json;
    else
        return shape::unknown;
}

template <class T>
inline constexpr shape send_shape = shape_to_send<T>();
template <class T>
inline constexpr shape read_shape = shape_to_read<T>();

/// Says what to write instead of a type that cannot be sent.
template <class T>
constexpr void check_sendable() {
    constexpr shape s = send_shape<T>;
    static_assert(
        s != shape::character,
        "arke: is a single character a letter or a number? Write std::string(1, c) for text or int(c) for a number.");
    static_assert(s != shape::foreign_text,
                  "arke: text travels as UTF-8 in plain char: convert it to std::string, or drop the u8, u, U or L "
                  "before the literal.");
    static_assert(s != shape::pointer,
                  "arke: a pointer is not sent (nor is it a bool): write *pointer or pointer != nullptr.");
    static_assert(s != shape::enumeration,
                  "arke: an enum is not sent as its number unasked: use NLOHMANN_JSON_SERIALIZE_ENUM(type, ...) or "
                  "static_cast<int>(value).");
    static_assert(s != shape::unknown,
                  "arke: this type is not known to nlohmann/json: write NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(type, "
                  "members...) in its "
                  "namespace, or a to_json(nlohmann::json&, const type&).");
}

/// Says what to write instead of a type that cannot be received.
template <class T>
constexpr void check_readable() {
    constexpr shape s = read_shape<T>;
    static_assert(s != shape::character,
                  "arke: a single character is not received: take std::string, or an int for a number.");
    static_assert(s != shape::foreign_text,
                  "arke: text arrives as UTF-8 in plain char: take std::string or std::string_view.");
    static_assert(s != shape::foreign_bytes, "arke: binary data is received as arke::bytes or arke::bytes_view.");
    static_assert(s != shape::pointer, "arke: a pointer is not received: take the value, or std::string for a char*.");
    static_assert(s != shape::enumeration,
                  "arke: an enum is not received as its number unasked: use NLOHMANN_JSON_SERIALIZE_ENUM(type, ...) or "
                  "take an int.");
    static_assert(s != shape::unknown,
                  "arke: this type is not known to nlohmann/json: write NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(type, "
                  "members...) in its "
                  "namespace, or a from_json(const nlohmann::json&, type&).");
}

[[noreturn]] void refuse_value(const char* sentence);
encoded_value encode_text(std::string_view text);
// Templates, so that a program that sends and takes no JSON does not compile the parser.
template <class Json>
encoded_value encode_document(const Json& document);

bool read_boolean(std::string_view data, bool& out, std::string& why);
bool read_integer(std::string_view data, std::int64_t least, std::int64_t most, std::int64_t& out, std::string& why);
bool read_natural(std::string_view data, std::uint64_t most, std::uint64_t& out, std::string& why);
bool read_floating(std::string_view data, float& out, std::string& why);
bool read_floating(std::string_view data, double& out, std::string& why);
bool read_floating(std::string_view data, long double& out, std::string& why);

/// The event's data as a JSON document. With `guess`, text that is JSON is taken for it: somebody asked for a type that
/// text is not. Without, text stays a JSON string.
template <class Json>
bool read_document(const event_view& event, const decode_limits& limits, bool guess, Json& out, std::string& why);

/// Sets `why` from the exception that is being handled. Lets std::bad_alloc through.
void explain_failed_conversion(std::string& why);

/// JSON data to a T. `source` must outlive the value, which may view strings in it.
template <class T>
bool read_json(const event_view& event, const decode_limits& limits, nlohmann::json& source, std::optional<T>& out,
               std::string& why) {
    if (!read_document(event, limits, !is_json<T>, source, why)) return false;
    if constexpr (std::same_as<T, nlohmann::json>) {
        out.emplace(std::move(source));
        return true;
    } else {
        try {
            out.emplace(source.template get<T>());
            return true;
        } catch (...) {
            explain_failed_conversion(why);
            return false;
        }
    }
}

}  // namespace detail

/// What may be sent: the table at the top.
template <class T>
concept emittable = detail::travels(detail::send_shape<std::remove_cvref_t<T>>);

/// What a handler may ask for: bool, integers, floating point, std::string, std::string_view, bytes, bytes_view,
/// nlohmann::json, and any type that nlohmann/json converts.
template <class T>
concept receivable = detail::travels(detail::read_shape<std::remove_cvref_t<T>>);

/// The wire form of no value.
inline encoded_value encode_value() noexcept { return {}; }

/// The wire form of a value. Text and bytes are viewed, not copied: the result lives no longer than the argument. Only JSON
/// allocates.
///
/// Not constrained by `emittable`: a type that cannot be sent meets a static_assert that says what to write instead, which
/// "no matching function" would not.
///
/// Throws std::invalid_argument, whose text names the mend, for text that is not UTF-8 (also inside of JSON), for a null
/// char*, and for a number that is infinite or not a number; and what the type's own to_json throws.
template <class T>
encoded_value encode_value(const T& value) {
    using detail::shape;
    constexpr shape s = detail::send_shape<T>;
    detail::check_sendable<T>();
    if constexpr (s == shape::text) {
        if constexpr (std::is_bounded_array_v<T>) {  // a buffer that is full has no terminator
            const std::string_view whole(value, std::extent_v<T>);
            return detail::encode_text(whole.substr(0, whole.find('\0')));
        } else if constexpr (std::is_pointer_v<T>) {
            if (value == nullptr) detail::refuse_value("a null char* is not text; send \"\" or nullptr instead");
            return detail::encode_text(value);
        } else {
            return detail::encode_text(value);
        }
    } else if constexpr (s == shape::boolean) {
        return encoded_value::borrowed(value_kind::boolean, value ? "true" : "false");
    } else if constexpr (s == shape::integer) {
        return encoded_value::number(value_kind::integer, value);
    } else if constexpr (s == shape::floating) {
        constexpr T most = std::numeric_limits<T>::max();
        if (!(value >= -most && value <= most))
            detail::refuse_value(
                "a number that is infinite or not a number has no JSON form; send nullptr or text instead");
        return encoded_value::number(value_kind::json, value);
    } else if constexpr (s == shape::bytes) {
        return encoded_value::borrowed(value_kind::binary, as_text(value));
    } else if constexpr (s == shape::null) {
        return encoded_value::borrowed(value_kind::json, "null");
    } else if constexpr (s == shape::json) {
        if constexpr (std::same_as<T, nlohmann::json> || std::same_as<T, nlohmann::ordered_json>)
            return detail::encode_document(value);
        else
            return detail::encode_document(nlohmann::json(value));
    } else {
        return {};
    }
}

/// Reads the data of an event as a T; T decides, not the event's kind.
///
/// - std::string, std::string_view, bytes, bytes_view: the data as it is, whatever its kind. The views view the event.
/// - bool: true or false. Integers: decimal, within T's range, no fraction. Floating point: a decimal number with or without
///   an exponent; what is too small becomes zero, what is too large is refused. White space around and a plus are allowed.
/// - nlohmann::json: text and bytes become a JSON string; integers and booleans are parsed and else become a JSON string;
///   JSON is parsed.
/// - other types: the data is parsed as JSON, or taken as a JSON string where its kind is not JSON and it does not parse; then
///   nlohmann converts it. A view that such a type holds would outlive what it views: use std::string there.
///
/// Returns whether it could. If not, `out` is unspecified and `why` is a sentence for a person. Bad remote data never
/// throws, whatever the type's own from_json does; std::bad_alloc passes through.
template <class T>
bool decode_value(const event_view& event, const decode_limits& limits, T& out, std::string& why) {
    using detail::shape;
    constexpr shape s = detail::read_shape<T>;
    detail::check_readable<T>();
    if constexpr (s == shape::text) {
        if constexpr (std::same_as<T, std::string_view>)
            out = event.data;
        else
            out.assign(event.data.data(), event.data.size());
        return true;
    } else if constexpr (s == shape::boolean) {
        return detail::read_boolean(event.data, out, why);
    } else if constexpr (s == shape::integer) {
        using range = std::numeric_limits<T>;
        if constexpr (std::is_signed_v<T>) {
            std::int64_t read = 0;
            if (!detail::read_integer(event.data, range::min(), range::max(), read, why)) return false;
            out = static_cast<T>(read);
        } else {
            std::uint64_t read = 0;
            if (!detail::read_natural(event.data, range::max(), read, why)) return false;
            out = static_cast<T>(read);
        }
        return true;
    } else if constexpr (s == shape::floating) {
        return detail::read_floating(event.data, out, why);
    } else if constexpr (s == shape::bytes) {
        const bytes_view raw = as_bytes(event.data);
        if constexpr (std::same_as<T, bytes_view>)
            out = raw;
        else
            out.assign(raw.begin(), raw.end());
        return true;
    } else if constexpr (s == shape::json) {
        nlohmann::json source;
        std::optional<T> value;
        if (!detail::read_json(event, limits, source, value, why)) return false;
        out = std::move(*value);
        return true;
    } else {
        return false;
    }
}

}  // namespace arke

#ifndef ARKE_SEPARATE_COMPILATION
#include <arke/event/value.ipp>
#endif
