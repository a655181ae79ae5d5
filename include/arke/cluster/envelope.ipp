#pragma once

#include <arke/cluster/envelope.hpp>
#include <arke/wire/utf8.hpp>

#include <cstring>
#include <limits>
#include <random>

namespace arke::cluster {

namespace detail {

inline constexpr char magic = '\xAE';
inline constexpr char version = 1;
inline constexpr std::size_t place_of_sequence = 3 + sizeof(sender_id);
inline constexpr std::size_t size_of_head = place_of_sequence + 8;

class envelope_writer {
public:
    explicit envelope_writer(std::string& to) noexcept : to_{to} {}

    void byte(auto value) { to_ += static_cast<char>(value); }
    void number(std::uint64_t value) {
        for (; value >= 0x80; value >>= 7U) byte(0x80U | (value & 0x7FU));
        byte(value);
    }
    void text(std::string_view value) {
        number(value.size());
        to_ += value;
    }

private:
    std::string& to_;
};

class envelope_reader {
public:
    explicit envelope_reader(std::string_view from) noexcept : left_{from} {}

    std::uint64_t number() noexcept {
        std::uint64_t value = 0;
        for (unsigned shift = 0; shift < 64; shift += 7) {
            const auto next = byte();
            if (shift == 63 && next > 1) break;
            value |= std::uint64_t{next & 0x7FU} << shift;
            if (next < 0x80) return value;
        }
        good_ = false;
        return 0;
    }
    unsigned byte() noexcept {
        if (left_.empty()) {
            good_ = false;
            return 0;
        }
        const auto value = static_cast<unsigned char>(left_.front());
        left_.remove_prefix(1);
        return value;
    }
    std::string_view text() noexcept {
        const auto size = number();
        if (size > left_.size()) {
            good_ = false;
            return {};
        }
        const auto value = left_.substr(0, static_cast<std::size_t>(size));
        left_.remove_prefix(value.size());
        return value;
    }

    /// One of an enumeration that ends with `last`.
    template <class Enum>
    Enum one_of(Enum last) noexcept {
        const auto value = byte();
        if (value > static_cast<unsigned>(last)) good_ = false;
        return good_ ? static_cast<Enum>(value) : Enum{};
    }

    /// So many things follow, each of a byte at least.
    std::size_t count() noexcept {
        const auto value = number();
        if (value > left_.size()) good_ = false;
        return good_ ? static_cast<std::size_t>(value) : 0;
    }

    void require(bool condition) noexcept { good_ = good_ && condition; }
    bool is_good() const noexcept { return good_; }
    bool is_done() const noexcept { return good_ && left_.empty(); }

private:
    std::string_view left_;
    bool good_ = true;
};

}  // namespace detail

ARKE_COLD_INLINE sender_id sender_id::make() {
    std::random_device source;
    sender_id made;
    for (auto& b : made.bytes) b = static_cast<char>(source());
    return made;
}

ARKE_INLINE std::string encode(const envelope& e) {
    using kind = envelope::kind;
    std::string bytes;
    bytes.reserve(detail::size_of_head + 64 + e.what.event.name.size() + e.what.event.data.size() + e.text.size());
    detail::envelope_writer to{bytes};
    to.byte(detail::magic);
    to.byte(detail::version);
    to.byte(e.is);
    bytes.append(e.from.bytes.data(), e.from.bytes.size());
    bytes.append(8, '\0');
    set_sequence(bytes, e.sequence);

    const auto aim = [&] {
        to.text(e.endpoint);
        to.byte(e.everyone);
        const auto names = [&](const auto& list) {
            to.number(list.size());
            for (const auto& each : list) {
                to.byte(each.is);
                to.text(each.text);
            }
        };
        names(e.to);
        names(e.except);
    };
    switch (e.is) {
        case kind::deliver:
            aim();
            to.byte(e.what.is);
            to.byte(e.what.how);
            to.byte(e.what.event.kind);
            to.text(e.what.event.name);
            to.text(e.what.event.data);
            to.text(e.what.key);
            break;
        case kind::disconnect:
            aim();
            to.number(static_cast<std::uint64_t>(e.code));
            to.text(e.text);
            break;
        case kind::join:
        case kind::leave:
            aim();
            to.text(e.text);
            break;
        case kind::heartbeat:
        case kind::hello:
        case kind::goodbye:
            to.text(e.tag);
            to.text(e.name_of_node);
            to.number(e.number);
            break;
        case kind::members:
        case kind::size:
            to.number(e.number);
            to.text(e.tag);
            to.text(e.endpoint);
            to.text(e.text);
            break;
        case kind::nodes:
            to.number(e.number);
            to.text(e.tag);
            break;
        case kind::event:
            to.number(e.number);
            to.text(e.tag);
            to.byte(e.what.event.kind);
            to.text(e.what.event.name);
            to.text(e.what.event.data);
            break;
        case kind::listed:
            to.number(e.number);
            to.byte(e.more);
            to.number(e.count);
            to.number(e.ids.size());
            for (const auto& id : e.ids) to.text(id);
            break;
        case kind::answer:
            to.number(e.number);
            to.byte(e.what.event.kind);
            to.text(e.what.event.data);
            break;
        case kind::refusal:
            to.number(e.number);
            to.byte(e.what.reason);
            to.text(e.what.event.data);
            break;
    }
    return bytes;
}

ARKE_INLINE void set_sequence(std::string& encoded, std::uint64_t sequence) noexcept {
    for (std::size_t i = 0; i != 8; ++i)
        encoded[detail::place_of_sequence + i] = static_cast<char>(sequence >> (8 * i) & 0xFFU);
}

ARKE_INLINE decoded decode(std::string_view bytes, envelope& to) {
    using kind = envelope::kind;
    if (bytes.size() < 2 || bytes[0] != detail::magic) return decoded::malformed;
    if (bytes[1] != detail::version) return decoded::newer;
    if (bytes.size() < detail::size_of_head) return decoded::malformed;
    const auto number_of_kind = static_cast<unsigned char>(bytes[2]);
    if (number_of_kind == 0) return decoded::malformed;
    if (number_of_kind > static_cast<unsigned>(kind::refusal)) return decoded::newer;

    to = {};
    to.is = static_cast<kind>(number_of_kind);
    std::memcpy(to.from.bytes.data(), bytes.data() + 3, to.from.bytes.size());
    for (std::size_t i = 0; i != 8; ++i) {
        to.sequence |= std::uint64_t{static_cast<unsigned char>(bytes[detail::place_of_sequence + i])} << (8 * i);
    }

    detail::envelope_reader from{bytes.substr(detail::size_of_head)};
    const auto aim = [&] {
        to.endpoint = from.text();
        to.everyone = from.byte() != 0;
        const auto names = [&](auto& list) {
            for (auto left = from.count(); left != 0 && from.is_good(); --left) {
                const auto is = from.one_of(core::name::kind::room);
                list.push_back({is, from.text()});
            }
        };
        names(to.to);
        names(to.except);
    };
    const auto event = [&](bool has_name) {
        auto& e = to.what.event;
        e.kind = from.one_of(value_kind::nothing);
        if (has_name) e.name = from.text();
        e.data = from.text();
        from.require(wire::is_utf8(e.name) && (e.kind == value_kind::binary || wire::is_utf8(e.data)));
    };
    switch (to.is) {
        case kind::deliver: {
            aim();
            auto& what = to.what;
            what.is = from.one_of(outgoing::what::binary);
            from.require(what.is == outgoing::what::event || what.is_native());
            what.how = from.one_of(urgency::latest_only);
            what.event.kind = from.one_of(value_kind::nothing);
            what.event.name = from.text();
            what.event.data = from.text();
            what.key = from.text();
            const bool is_text = what.is == outgoing::what::text ||
                                 (what.is == outgoing::what::event && what.event.kind != value_kind::binary);
            from.require(wire::is_utf8(what.event.name) && (!is_text || wire::is_utf8(what.event.data)));
            break;
        }
        case kind::disconnect: {
            aim();
            const auto code = from.number();
            from.require(code <= 4999 && may_be_sent(static_cast<close_code>(code)));
            to.code = static_cast<close_code>(code);
            to.text = from.text();
            from.require(wire::is_utf8(to.text));
            break;
        }
        case kind::join:
        case kind::leave:
            aim();
            to.text = from.text();
            break;
        case kind::heartbeat:
        case kind::hello:
        case kind::goodbye:
            to.tag = from.text();
            to.name_of_node = from.text();
            to.number = from.number();
            break;
        case kind::members:
        case kind::size:
            to.number = from.number();
            to.tag = from.text();
            to.endpoint = from.text();
            to.text = from.text();
            break;
        case kind::nodes:
            to.number = from.number();
            to.tag = from.text();
            break;
        case kind::event:
            to.number = from.number();
            to.tag = from.text();
            event(true);
            break;
        case kind::listed:
            to.number = from.number();
            to.more = from.byte() != 0;
            to.count = from.number();
            for (auto left = from.count(); left != 0 && from.is_good(); --left) to.ids.push_back(from.text());
            break;
        case kind::answer:
            to.number = from.number();
            event(false);
            break;
        case kind::refusal:
            to.number = from.number();
            to.what.reason = from.one_of(refusal_reason::busy);
            to.what.event.data = from.text();
            from.require(wire::is_utf8(to.what.event.data));
            break;
    }
    return from.is_done() ? decoded::yes : decoded::malformed;
}

}  // namespace arke::cluster
