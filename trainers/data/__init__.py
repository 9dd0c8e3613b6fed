"""From folders of photographs to views: layouts, decoding, the cache, augmentation."""
