// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <functional>
#include <list>
#include <unordered_map>
#include <utility>

namespace tcpinfo::detail {

/// At most `capacity` values by key; where one more is inserted, the one that was least recently found is forgotten.
template <class Key, class Value, class Hash = std::hash<Key>>
class Lru {
 public:
  explicit Lru(std::size_t capacity) : capacity_(capacity) {}

  /// Valid until the next insert().
  Value* find(const Key& key) {
    const auto place = places_.find(key);
    if (place == places_.end()) return nullptr;
    values_.splice(values_.begin(), values_, place->second);
    return &place->second->second;
  }

  /// The value of `key`, which is a new one if there was none.
  Value& insert(const Key& key) {
    if (auto* known = find(key)) return *known;
    if (values_.size() >= capacity_) {
      places_.erase(values_.back().first);
      values_.pop_back();
    }
    values_.emplace_front(key, Value{});
    places_.emplace(key, values_.begin());
    return values_.front().second;
  }

  void erase(const Key& key) {
    const auto place = places_.find(key);
    if (place == places_.end()) return;
    values_.erase(place->second);
    places_.erase(place);
  }
  void clear() noexcept {
    places_.clear();
    values_.clear();
  }

  /// There has to be one.
  const Value& oldest() const { return values_.back().second; }
  std::size_t size() const noexcept { return values_.size(); }
  auto begin() { return values_.begin(); }
  auto end() { return values_.end(); }

 private:
  std::size_t capacity_;
  std::list<std::pair<Key, Value>> values_;  // the one that was found last stands first
  std::unordered_map<Key, typename std::list<std::pair<Key, Value>>::iterator, Hash> places_;
};

}  // namespace tcpinfo::detail
