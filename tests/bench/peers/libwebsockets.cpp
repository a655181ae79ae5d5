// The benchmark's server on libwebsockets, one thread.
//
//     libwebsockets PORT
//
// A message "S" subscribes to the room, one that begins with B goes to the room, everything else is echoed, text as text
// and binary as binary. Nothing is written but in the writeable callback, as the library wants it; there, all that waits is
// written until it says that it had to buffer. No extensions; one read and one callback for messages of up to 512 KiB.

#include <libwebsockets.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace {

constexpr std::size_t buffer_size = 512 * 1024;
constexpr std::size_t max_message = 16 * 1024 * 1024;

volatile std::sig_atomic_t stopped = 0;
lws_context* context = nullptr;

// The library writes its header in front of the payload.
struct message {
    std::vector<unsigned char> bytes = std::vector<unsigned char>(LWS_PRE);
    bool is_binary = false;

    std::string_view text() const {
        return {reinterpret_cast<const char*>(bytes.data()) + LWS_PRE, bytes.size() - LWS_PRE};
    }
};
using message_ptr = std::shared_ptr<message>;

struct session {
    message_ptr incoming{};
    std::deque<message_ptr> queue{};
};

std::unordered_set<lws*> room;

session& session_of(lws* wsi) { return **static_cast<session**>(lws_wsi_user(wsi)); }

void queue(lws* wsi, const message_ptr& m) {
    session_of(wsi).queue.push_back(m);
    lws_callback_on_writable(wsi);
}

// Nonzero closes the connection.
int received(lws* wsi, session& s, const unsigned char* data, std::size_t size) {
    if (!s.incoming) s.incoming = std::make_shared<message>();
    auto& bytes = s.incoming->bytes;
    if (bytes.size() + size > max_message + LWS_PRE) return -1;
    if (lws_is_first_fragment(wsi) != 0) {
        s.incoming->is_binary = lws_frame_is_binary(wsi) != 0;
        bytes.reserve(bytes.size() + size + lws_remaining_packet_payload(wsi));
    }
    bytes.insert(bytes.end(), data, data + size);
    if (lws_is_final_fragment(wsi) == 0 || lws_remaining_packet_payload(wsi) != 0) return 0;

    const auto done = std::move(s.incoming);
    s.incoming.reset();
    if (done->text() == "S") {
        room.insert(wsi);
    } else if (!done->text().empty() && done->text().front() == 'B') {
        for (lws* const member : room) queue(member, done);
    } else {
        queue(wsi, done);
    }
    return 0;
}

int write_all(lws* wsi, session& s) {
    while (!s.queue.empty()) {
        const auto m = s.queue.front();
        s.queue.pop_front();
        const std::size_t size = m->bytes.size() - LWS_PRE;
        const auto kind = m->is_binary ? LWS_WRITE_BINARY : LWS_WRITE_TEXT;
        if (lws_write(wsi, m->bytes.data() + LWS_PRE, size, kind) < static_cast<int>(size)) return -1;
        if (lws_partial_buffered(wsi) != 0) break;
    }
    if (!s.queue.empty()) lws_callback_on_writable(wsi);
    return 0;
}

int on_event(lws* wsi, lws_callback_reasons reason, void* user, void* in, std::size_t size) {
    switch (reason) {
        case LWS_CALLBACK_ESTABLISHED: *static_cast<session**>(user) = new session; return 0;
        case LWS_CALLBACK_RECEIVE: return received(wsi, session_of(wsi), static_cast<const unsigned char*>(in), size);
        case LWS_CALLBACK_SERVER_WRITEABLE: return write_all(wsi, session_of(wsi));
        case LWS_CALLBACK_CLOSED:
            room.erase(wsi);
            delete *static_cast<session**>(user);
            return 0;
        default: return lws_callback_http_dummy(wsi, reason, user, in, size);
    }
}

void on_signal(int) {
    stopped = 1;
    lws_cancel_service(context);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fputs("libwebsockets PORT\n", stderr);
        return 2;
    }
    lws_set_log_level(LLL_ERR, nullptr);

    lws_protocols protocols[2];
    std::memset(protocols, 0, sizeof protocols);
    protocols[0].name = "bench";
    protocols[0].callback = on_event;
    protocols[0].per_session_data_size = sizeof(session*);
    protocols[0].rx_buffer_size = buffer_size;

    lws_context_creation_info info;
    std::memset(&info, 0, sizeof info);
    info.port = std::atoi(argv[1]);
    info.iface = "127.0.0.1";
    info.protocols = protocols;
    info.pt_serv_buf_size = buffer_size;
    info.options = LWS_SERVER_OPTION_DISABLE_IPV6;
    context = lws_create_context(&info);
    if (context == nullptr) {
        std::fprintf(stderr, "libwebsockets: cannot listen on 127.0.0.1:%s\n", argv[1]);
        return 1;
    }
    struct sigaction action {};
    action.sa_handler = on_signal;
    ::sigaction(SIGTERM, &action, nullptr);
    ::sigaction(SIGINT, &action, nullptr);

    std::printf("listening on %s\n", argv[1]);
    std::fflush(stdout);
    while (stopped == 0 && lws_service(context, 0) >= 0) {
    }
    lws_context_destroy(context);
}
