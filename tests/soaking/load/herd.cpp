// Hundreds who come back at once, say hello, and go in every way, again and again.

#include "client.hpp"

namespace soak {

namespace {

constexpr int herd_size = 250;

awaitable<void> come_back(world& w) {
    const auto c = make_client(w, "one of a herd");
    if (!co_await c->open("/chat")) co_return;
    if (w.chance(10)) co_return c->reset();
    c->emit("hello", "herd");
    const auto answer = co_await c->read_event("welcome");
    if (answer != "herd") w.fault("one of a herd was not welcomed");
    switch (w.below(3)) {
        case 0: co_await c->close(); break;
        case 1: c->reset(); break;
        default: c->cut(); break;
    }
}

awaitable<void> stampede(world& w) {
    while (w.running) {
        int left = herd_size;
        bell empty{w};
        for (int i = 0; i != herd_size; ++i) {
            asio::co_spawn(w.context, come_back(w), [&](const std::exception_ptr& thrown) {
                if (thrown) w.fault("one of a herd failed");
                if (--left == 0) empty.ring();
            });
        }
        while (left != 0) co_await empty.wait(milliseconds{1000});
        ++w.count.herds;
        for (int i = 0; w.running && i != 20; ++i) co_await w.pause(milliseconds{50});
    }
}

}  // namespace

void start_herd(world& w) { w.start(stampede(w)); }

}  // namespace soak
