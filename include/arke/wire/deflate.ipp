#pragma once

#include <arke/wire/deflate.hpp>
#include <arke/wire/handshake.ipp>

#include <boost/beast/zlib/deflate_stream.hpp>
#include <boost/beast/zlib/inflate_stream.hpp>

#include <array>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

namespace arke::wire {

// --------------------------------------------------------------------------------------------------------- negotiation

namespace detail {

/// The extensions that stand in one header field, one after another; each byte is looked at once.
class extension_reader {
public:
    struct parameter {
        std::string_view name;
        std::optional<std::string> value;
    };

    explicit extension_reader(std::string_view field) : in_{field} {}

    /// The next one's name; false at the end, and where the field is malformed from there on.
    bool next(std::string_view& name) {
        parameters.clear();
        for (skip_space(); !in_.empty() && in_.front() == ','; skip_space()) in_.remove_prefix(1);
        if (in_.empty()) return false;
        name = token();
        malformed = name.empty();
        while (!malformed && take(';')) parameter_follows();
        if (!malformed && !in_.empty() && in_.front() != ',') malformed = true;
        return !malformed;
    }

    std::vector<parameter> parameters;
    bool malformed = false;

private:
    void skip_space() {
        while (!in_.empty() && (in_.front() == ' ' || in_.front() == '\t')) in_.remove_prefix(1);
    }

    bool take(char what) {
        skip_space();
        if (in_.empty() || in_.front() != what) return false;
        in_.remove_prefix(1);
        skip_space();
        return true;
    }

    std::string_view token() {
        std::size_t size = 0;
        while (size != in_.size() && token_bytes[static_cast<unsigned char>(in_[size])]) ++size;
        const auto found = in_.substr(0, size);
        in_.remove_prefix(size);
        skip_space();
        return found;
    }

    void parameter_follows() {
        parameter p{token(), std::nullopt};
        if (p.name.empty()) {
            malformed = true;
            return;
        }
        if (take('=')) {
            p.value = !in_.empty() && in_.front() == '"' ? quoted() : std::string{token()};
            // What stands in quotes must be a token too (RFC 6455 §9.1).
            if (!is_token(*p.value)) malformed = true;
        }
        parameters.push_back(std::move(p));
    }

    std::string quoted() {
        std::string text;
        in_.remove_prefix(1);
        while (!in_.empty() && in_.front() != '"') {
            if (in_.front() == '\\') in_.remove_prefix(1);
            if (in_.empty()) break;
            text += in_.front();
            in_.remove_prefix(1);
        }
        if (in_.empty()) return {};
        in_.remove_prefix(1);
        skip_space();
        return text;
    }

    std::string_view in_;
};

/// The parameters of permessage-deflate. Window bits of 0: not mentioned.
struct deflate_parameters {
    bool server_takes_over = true;
    bool client_takes_over = true;
    std::uint8_t server_bits = 0;
    std::uint8_t client_bits = 0;
    bool names_client_bits = false;  // in an offer it may stand without a value
};

/// 0: no number from 8 to 15.
ARKE_COLD_INLINE std::uint8_t read_window_bits(std::string_view text) noexcept {
    if (text.size() == 1 && (text[0] == '8' || text[0] == '9')) return static_cast<std::uint8_t>(text[0] - '0');
    if (text.size() == 2 && text[0] == '1' && text[1] >= '0' && text[1] <= '5')
        return static_cast<std::uint8_t>(10 + text[1] - '0');
    return 0;
}

/// Nothing where one is unknown, said twice, or has a value that it cannot have.
ARKE_COLD_INLINE std::optional<deflate_parameters> read_deflate_parameters(
    const std::vector<extension_reader::parameter>& all, bool is_offer) {
    deflate_parameters read;
    for (const auto& [name, value] : all) {
        if (same_ignoring_case(name, "server_no_context_takeover")) {
            if (value || !std::exchange(read.server_takes_over, false)) return std::nullopt;
        } else if (same_ignoring_case(name, "client_no_context_takeover")) {
            if (value || !std::exchange(read.client_takes_over, false)) return std::nullopt;
        } else if (same_ignoring_case(name, "server_max_window_bits")) {
            if (!value || read.server_bits != 0) return std::nullopt;
            read.server_bits = read_window_bits(*value);
            if (read.server_bits == 0) return std::nullopt;
        } else if (same_ignoring_case(name, "client_max_window_bits")) {
            if (std::exchange(read.names_client_bits, true) || (!value && !is_offer)) return std::nullopt;
            if (!value) continue;
            read.client_bits = read_window_bits(*value);
            if (read.client_bits == 0) return std::nullopt;
        } else {
            return std::nullopt;
        }
    }
    return read;
}

inline constexpr std::string_view deflate_name = "permessage-deflate";

ARKE_COLD_INLINE std::string deflate_header(const deflate_parameters& p) {
    std::string text{deflate_name};
    if (!p.server_takes_over) text += "; server_no_context_takeover";
    if (!p.client_takes_over) text += "; client_no_context_takeover";
    if (p.server_bits != 0) text += "; server_max_window_bits=" + std::to_string(p.server_bits);
    if (p.names_client_bits) text += "; client_max_window_bits";
    if (p.client_bits != 0) text += "=" + std::to_string(p.client_bits);
    return text;
}

inline constexpr std::uint8_t largest_window = 15;

/// The window that is in force where these bits were mentioned.
constexpr std::uint8_t window_of(std::uint8_t mentioned) noexcept {
    return mentioned == 0 ? largest_window : mentioned;
}

}  // namespace detail

ARKE_COLD_INLINE std::optional<deflate_answer> accept_deflate(std::span<const std::string_view> offers,
                                                              const deflate_terms& ready) {
    for (const auto field : offers) {
        detail::extension_reader reader{field};
        for (std::string_view name; reader.next(name);) {
            if (!same_ignoring_case(name, detail::deflate_name)) continue;
            const auto offer = detail::read_deflate_parameters(reader.parameters, true);
            if (!offer) continue;

            deflate_terms agreed = ready;
            agreed.send_takeover = ready.send_takeover && offer->server_takes_over;
            agreed.send_window_bits = std::min(ready.send_window_bits, detail::window_of(offer->server_bits));
            agreed.receive_window_bits = detail::window_of(offer->client_bits);
            if (offer->names_client_bits)
                agreed.receive_window_bits = std::min(agreed.receive_window_bits, ready.receive_window_bits);
            agreed.receive_takeover = ready.receive_takeover && offer->client_takes_over &&
                                      agreed.receive_window_bits <= ready.receive_window_bits;

            detail::deflate_parameters said;
            said.server_takes_over = agreed.send_takeover;
            said.client_takes_over = agreed.receive_takeover;
            if (offer->server_bits != 0 || agreed.send_window_bits != detail::largest_window)
                said.server_bits = agreed.send_window_bits;
            if (offer->names_client_bits && agreed.receive_window_bits != detail::largest_window) {
                said.names_client_bits = true;
                said.client_bits = agreed.receive_window_bits;
            }
            return deflate_answer{agreed, detail::deflate_header(said)};
        }
    }
    return std::nullopt;
}

ARKE_COLD_INLINE std::string offer_deflate(const deflate_terms& ready) {
    detail::deflate_parameters said;
    said.server_takes_over = ready.receive_takeover;
    said.client_takes_over = ready.send_takeover;
    if (ready.receive_window_bits != detail::largest_window) said.server_bits = ready.receive_window_bits;
    // Without a value, which would be a hint only: a smaller window is ours to use, and servers are known that refuse a value
    // below their own.
    said.names_client_bits = true;
    return detail::deflate_header(said);
}

ARKE_COLD_INLINE std::string find_deflate_fault(std::span<const std::string_view> answers, const deflate_terms& offered,
                                                std::optional<deflate_terms>& agreed) {
    agreed.reset();
    for (const auto field : answers) {
        detail::extension_reader reader{field};
        std::string_view name;
        while (reader.next(name)) {
            if (!same_ignoring_case(name, detail::deflate_name))
                return "the server has chosen the extension " + std::string{name} + ", which was not offered";
            if (agreed) return "the server has chosen permessage-deflate twice";
            const auto said = detail::read_deflate_parameters(reader.parameters, false);
            if (!said)
                return "the server has answered permessage-deflate with a parameter that is unknown, said twice, or "
                       "has "
                       "a value that it cannot have";
            if (said->server_takes_over && !offered.receive_takeover)
                return "the server has chosen permessage-deflate without the server_no_context_takeover that was asked "
                       "for";
            if (detail::window_of(said->server_bits) > offered.receive_window_bits)
                return "the server has chosen permessage-deflate with a window that is larger than the one that was "
                       "asked for";
            agreed.emplace();
            agreed->send_takeover = offered.send_takeover && said->client_takes_over;
            agreed->send_window_bits = std::min(offered.send_window_bits, detail::window_of(said->client_bits));
            agreed->receive_takeover = said->server_takes_over;
            agreed->receive_window_bits = detail::window_of(said->server_bits);
        }
        if (reader.malformed) return "the server's Sec-WebSocket-Extensions is malformed";
    }
    return {};
}

// ----------------------------------------------------------------------------------------------------------- inflating

// What a sync flush ends with, and what is not sent of it.
inline constexpr std::array<unsigned char, 4> deflate_tail{0x00, 0x00, 0xFF, 0xFF};

struct inflater::body {
    boost::beast::zlib::inflate_stream stream;
    bool fresh = true;
};

ARKE_INLINE inflater::inflater(int window_bits) : body_{std::make_unique<body>()} { body_->stream.reset(window_bits); }
ARKE_INLINE inflater::~inflater() = default;

ARKE_INLINE void inflater::forget() noexcept {
    if (!std::exchange(body_->fresh, true)) body_->stream.reset();
}

ARKE_INLINE inflater::result inflater::inflate(std::string_view compressed, std::size_t limit, byte_buffer& out) {
    namespace zlib = boost::beast::zlib;
    body_->fresh = false;
    // A message of no bytes at all is none of DEFLATE, and clear all the same.
    if (compressed.empty()) return result::done;
    // One byte more than may come out shows that it is too much.
    const auto most = limit == std::numeric_limits<std::size_t>::max() ? limit : limit + 1;
    const auto begin = out.size;
    const auto came_out = [&] { return out.size - begin; };

    zlib::z_params p;
    p.next_in = compressed.data();
    p.avail_in = compressed.size();
    bool in_tail = false;
    for (;;) {
        if (p.avail_in == 0 && !in_tail) {
            in_tail = true;
            p.next_in = deflate_tail.data();
            p.avail_in = deflate_tail.size();
        }
        if (out.capacity == out.size) {
            // Mostly four times the compressed size is enough; from there it grows by doubling, and never beyond `most`.
            const auto whole = std::max({std::size_t{256}, compressed.size() * 4, came_out() * 2});
            out.reserve(std::min(whole, most) - came_out());
        }
        const auto room = std::min(out.capacity - out.size, most - came_out());
        p.next_out = out.data.get() + out.size;
        p.avail_out = room;
        error_code ec;
        try {
            body_->stream.write(p, zlib::Flush::sync, ec);
        } catch (const std::logic_error&) {
            return result::garbage;
        }
        out.size += room - p.avail_out;
        if (came_out() == most && most != limit) return result::too_big;
        if (ec == zlib::error::end_of_stream) {
            // What follows on a final block is a stream of its own. Mostly it is the byte that makes an empty block of the tail
            // (RFC 7692 §7.2.3.4); without it the tail is left out.
            body_->stream.reset();
            if (in_tail || p.avail_in == 0) break;
            continue;
        }
        if (ec && ec != zlib::error::need_buffers) return result::garbage;
        if (!in_tail || p.avail_in != 0) continue;
        // Between two blocks, with no bit left over: here the next message can begin.
        constexpr int between_blocks = 128;
        if (p.data_type == between_blocks) break;
        if (p.avail_out != 0) return result::garbage;
    }
    return result::done;
}

// --------------------------------------------------------------------------------------------------------- compressing

struct deflater::body {
    boost::beast::zlib::deflate_stream stream;
};

ARKE_INLINE deflater::deflater(int level, int window_bits, int memory_level) : body_{std::make_unique<body>()} {
    // A window of 8 bits is one of 9 here: the compressor looks back over all but 262 bytes of it, which are 250.
    body_->stream.reset(level, std::max(window_bits, 9), memory_level, boost::beast::zlib::Strategy::normal);
}
ARKE_INLINE deflater::deflater(deflater&&) noexcept = default;
ARKE_INLINE deflater::~deflater() = default;

ARKE_INLINE void deflater::forget() noexcept { body_->stream.reset(); }

ARKE_INLINE void deflater::deflate(std::string_view message, byte_buffer& out) {
    namespace zlib = boost::beast::zlib;
    zlib::z_params p;
    p.next_in = message.data();
    p.avail_in = message.size();
    // The bound is one for a whole stream; the flush adds its marker and what the last byte lacks.
    std::size_t room = body_->stream.upper_bound(message.size()) + 16;
    do {
        p.next_out = out.reserve(room);
        p.avail_out = room = out.capacity - out.size;
        error_code ec;
        body_->stream.write(p, zlib::Flush::sync, ec);
        out.size += room - p.avail_out;
        room = 4096;
    } while (p.avail_out == 0);
    out.size -= deflate_tail.size();
}

}  // namespace arke::wire
