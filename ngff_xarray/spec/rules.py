"""What the specification demands, in its words: the text, the section, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One sentence of the specification.

    Parameters
    ----------
    section
        The section that it stands in, by its title.
    text
        What it says.
    mend
        What to do where a document breaks it.
    """

    section: str
    text: str
    mend: str


_AXES = '"axes" metadata'
_SYSTEMS = '"coordinateSystems" metadata'
_TRANSFORMATIONS = '"coordinateTransformations" metadata'
_MULTISCALES = '"multiscales" metadata'
_OMERO = '"omero" metadata'
_LABELS = '"labels" metadata'
_PLATE = '"plate" metadata'
_WELL = '"well" metadata'
_BF2RAW = '"bioformats2raw.layout" metadata'
_SCENE = '"scene" metadata'
_STORAGE = "Storage format"

# documents
NAMESPACE = Rule(
    "OME-Zarr Metadata",
    "All metadata defined by the specification is stored under the 'ome' key of the group's "
    "attributes.",
    "Put the OME-Zarr keys into an object under the key 'ome'.",
)
VERSION = Rule(
    "OME-Zarr Metadata",
    "The version of the specification MUST be given, and be consistent within a hierarchy.",
    "Write the version that the document follows.",
)
VERSION_SHOULD = Rule(
    _MULTISCALES,
    "Each object SHOULD contain the field 'version', the version of the specification.",
    "Add the version that the document follows.",
)
ZARR_FORMAT = Rule(
    _STORAGE,
    "Versions before 0.5 are stored with Zarr v2, version 0.5 and later with Zarr v3.",
    "Write the image again with the Zarr format of its version.",
)
CHUNK_KEYS = Rule(
    _STORAGE,
    "Chunks are nested: the dimension separator is '/'.",
    "Nothing: any reader of Zarr understands both.",
)
NESTING = Rule(
    "OME-Zarr Metadata", "The metadata is a JSON document.", "Remove what nests so deep."
)

# axes and coordinate systems
AXES = Rule(
    _AXES,
    "The length of 'axes' must be between 2 and 5 and MUST be equal to the dimensionality of the "
    "arrays.",
    "List one axis a dimension, in the order of the arrays.",
)
AXES_STRINGS = Rule(
    _MULTISCALES,
    "'axes' is a list of unique names among 't', 'c', 'z', 'y' and 'x', in this order.",
    'Write the axes as names, such as ["t", "c", "z", "y", "x"].',
)
AXES_OBJECTS = Rule(
    _AXES, "'axes' is a list of objects.", 'Write each axis as {"name": …, "type": …, "unit": …}.'
)
AXIS_NAME = Rule(
    _AXES,
    "Each axis MUST contain the field 'name'; the values MUST be unique.",
    "Give each axis a name of its own.",
)
AXIS_TYPE = Rule(
    _AXES,
    "Each axis SHOULD contain the field 'type': 'space', 'time', 'channel' or a custom word.",
    "Add the type of the axis.",
)
AXIS_TYPE_TEXT = Rule(
    _AXES, "The value of 'type' is a string.", "Write the type as text, or leave it out."
)
AXIS_UNIT = Rule(
    _AXES,
    "Axes SHOULD contain the field 'unit', one of the listed names of units.",
    "Write the unit's full name, such as 'micrometer' or 'second'.",
)
AXIS_UNIT_TEXT = Rule(
    _AXES, "The value of 'unit' is a string.", "Write the unit as text, or leave it out."
)
AXIS_DISCRETE = Rule(
    _AXES,
    "An axis MAY contain the field 'discrete'. The value MUST be a boolean.",
    "Write true or false.",
)
AXIS_LONG_NAME = Rule(
    _AXES, "An axis MAY contain the field 'longName'. The value MUST be a string.", "Write text."
)
AXES_SPACE = Rule(
    _MULTISCALES,
    "'axes' MUST contain 2 or 3 entries of type 'space'.",
    "Check the types of the axes: z, y and x are of type 'space'.",
)
AXES_OTHERS = Rule(
    _MULTISCALES,
    "'axes' MAY contain one entry of type 'time' and one of type 'channel' or a custom type.",
    "Split the image, so that one axis besides time and space is left.",
)
AXES_ORDER = Rule(
    _MULTISCALES,
    "The entries MUST be ordered by type: time first, then channel or custom, then space.",
    "Transpose the arrays and list their axes in the new order.",
)
SYSTEMS = Rule(
    _SYSTEMS,
    "'coordinateSystems' is a list of objects, each with a 'name' and 'axes'.",
    "Describe at least the coordinate system that the levels lead to.",
)
SYSTEM_NAME = Rule(
    _SYSTEMS,
    "A coordinate system MUST contain the field 'name': a non-empty string that is unique.",
    "Give each coordinate system a name of its own.",
)
VECTOR_AXIS = Rule(
    _TRANSFORMATIONS,
    "The axis of the vectors MUST have the type 'displacement' or 'coordinate' and be discrete.",
    'Add "discrete": true to the axis.',
)

# images
MULTISCALES = Rule(
    _MULTISCALES,
    "'multiscales' contains a list of at least one object; each describes one image.",
    "Describe the image under 'multiscales'.",
)
MULTISCALES_UNIQUE = Rule(
    _MULTISCALES, "The objects of 'multiscales' are unique.", "Remove the repetition."
)
NAME_TEXT = Rule(_MULTISCALES, "The value of 'name' is a string.", "Write the name as text.")
TYPE_TEXT = Rule(_MULTISCALES, "The value of 'type' is a string.", "Write the method as text.")
METADATA = Rule(_MULTISCALES, "The value of 'metadata' is an object.", "Write it as an object.")
DATASETS = Rule(
    _MULTISCALES,
    "Each object MUST contain the field 'datasets': a list of objects, one a resolution.",
    "List the arrays of the image under 'datasets'.",
)
PATH = Rule(
    _MULTISCALES,
    "Each object in 'datasets' MUST contain the field 'path', a string: the path of the array "
    "relative to the group.",
    "Write the path of the array, as text.",
)
LEVEL_ARRAY = Rule(
    _MULTISCALES,
    "'path' is the path of the array of this resolution, relative to the group.",
    "Remove the entry, or write the array.",
)
LEVEL_ORDER = Rule(
    _MULTISCALES,
    "The paths MUST be ordered from largest (highest resolution) to smallest.",
    "Put the finest level first.",
)
LEVEL_NDIM = Rule(
    _MULTISCALES,
    "The number of dimensions and their order MUST correspond to the number and order of 'axes'.",
    "List one axis a dimension of the arrays.",
)
LEVEL_DTYPE = Rule(
    _MULTISCALES,
    "Every array MUST have the same number of dimensions and data type.",
    "Write the levels with the data type of the first.",
)
DIMENSION_NAMES = Rule(
    _MULTISCALES,
    "The 'dimension_names' attribute of each array MUST match the names in 'axes'.",
    "Write the names of the axes as the array's dimension_names.",
)

# transformations
TRANSFORMATIONS_V4 = Rule(
    _MULTISCALES,
    "'coordinateTransformations' MUST contain exactly one 'scale' and MAY contain one "
    "'translation' after it.",
    "Write one scale and, after it, at most one translation.",
)
VECTOR = Rule(
    _TRANSFORMATIONS,
    "The length of the parameters MUST be the number of axes of the coordinate system.",
    "Write one number an axis, in the order of the axes.",
)
SCALE_ZERO = Rule(
    _TRANSFORMATIONS,
    "Values of 'scale' SHOULD be non-zero: otherwise all pixels lie at one place.",
    "Write the distance between the centres of two pixels.",
)
SCALE_NEGATIVE = Rule(
    _TRANSFORMATIONS,
    "Values of 'scale' are greater than zero.",
    "Write positive numbers, and flip the array or use an affine.",
)
TRANSFORMATION = Rule(
    _TRANSFORMATIONS,
    "A transformation is an object with a 'type', which determines its other fields.",
    "Write the type and the fields that it needs.",
)
TRANSFORMATIONS = Rule(
    _TRANSFORMATIONS,
    "'coordinateTransformations' is a list of at least one transformation.",
    "Write at least one transformation, or leave the key out.",
)
TRANSFORMATION_NAME = Rule(
    _TRANSFORMATIONS, "The 'name' of a transformation is a string.", "Write the name as text."
)
ENDS = Rule(
    _TRANSFORMATIONS,
    "'input' and 'output' are objects with the fields 'name' and 'path' of a coordinate system.",
    'Write them as {"name": …} or {"name": …, "path": …}.',
)
LEVEL_TRANSFORMATION = Rule(
    _MULTISCALES,
    "'coordinateTransformations' of a dataset MUST be a single scale, identity, or sequence of a "
    "scale followed by a translation.",
    "Write one transformation, or one sequence of a scale and a translation.",
)
LEVEL_INPUT = Rule(
    _MULTISCALES,
    "The 'input' object MUST specify a 'path' matching the 'path' of the dataset, and omit 'name'.",
    'Write "input": {"path": …} with the path of the dataset.',
)
LEVEL_OUTPUT = Rule(
    _MULTISCALES,
    "The 'name' of 'output' MUST be the name of a coordinate system, the same at every level.",
    'Write "output": {"name": …} with the name of the intrinsic coordinate system.',
)
INTRINSIC = Rule(
    _MULTISCALES,
    "One of 'input' or 'output' MUST reference the intrinsic coordinate system; the other another "
    "one of this group or of a child labels group.",
    "Let the transformation start or end at the coordinate system of the levels.",
)
LABEL_TRANSFORMATION = Rule(
    _MULTISCALES,
    "When referencing a coordinate system in a child labels group, the transformation MUST be "
    "identity, scale or translation.",
    "Use one of these.",
)
SYSTEM_UNKNOWN = Rule(
    _TRANSFORMATIONS,
    "The values of 'name' and 'path' are a reference to a named coordinate system.",
    "Refer to a coordinate system that is described, or describe it.",
)
CONNECTED = Rule(
    _TRANSFORMATIONS,
    "The graph of coordinate systems MUST be connected.",
    "Add a transformation between the parts.",
)
MAP_AXIS = Rule(
    _TRANSFORMATIONS,
    "'mapAxis' is a list in which the index of every input axis appears exactly once.",
    "Write a permutation of 0 to N-1.",
)
PROJECT_AXIS = Rule(
    _TRANSFORMATIONS,
    "'projectAxis' has 'droppedInputs' or 'createdOutputs': one to three different indices of "
    "axes, 0 to 4.",
    "List the input axes that are dropped and the output axes that are new.",
)
MATRIX = Rule(
    _TRANSFORMATIONS,
    "The matrix MUST be a nested list of numbers of matching size, or the 'path' of an array, and "
    "not both.",
    "Write one row an output axis: an affine has one column more than there are input axes, a "
    "rotation as many.",
)
ROTATION = Rule(
    _TRANSFORMATIONS,
    "A rotation MUST have determinant one, with orthonormal rows and columns.",
    "Write it with more digits, or as an affine.",
)
SEQUENCE = Rule(
    _TRANSFORMATIONS,
    "'transformations' is a non-empty list of transformations.",
    "List what is applied, the first one first.",
)
BIJECTION = Rule(
    _TRANSFORMATIONS,
    "A bijection has 'forward' and 'inverse' transformations between spaces of equal dimension.",
    "Write both directions.",
)
BY_DIMENSION = Rule(
    _TRANSFORMATIONS,
    "Each object MUST contain 'inputAxes', 'outputAxes' and 'transformation'; every output axis "
    "MUST appear in exactly one of them.",
    "Write the indices of the axes, each output axis once.",
)
FIELD = Rule(
    _TRANSFORMATIONS,
    "'displacements' and 'coordinates' have the 'path' of a multiscale group, and may say how to "
    "interpolate.",
    "Write the path of the field; interpolation is 'nearest', 'linear' or 'cubic'.",
)

# omero
OMERO = Rule(_OMERO, "'omero' is an object.", "Write it as an object.")
OMERO_CHANNELS = Rule(
    _OMERO,
    "'omero' MUST contain the field 'channels', a list of objects.",
    "Describe the channels, one object each.",
)
OMERO_COLOR = Rule(
    _OMERO,
    "Each channel MUST contain 'color', a string of 6 hexadecimal digits (RGB).",
    "Write the colour as six hexadecimal digits, without '#'.",
)
OMERO_WINDOW = Rule(
    _OMERO,
    "Each channel MUST contain 'window', an object with the numbers 'min', 'max', 'start', 'end'.",
    "Write the range of values and the range that is shown.",
)
OMERO_FIELD = Rule(
    _OMERO, "'label' and 'family' are strings, 'active' is a boolean.", "Write that type of value."
)
OMERO_COUNT = Rule(_OMERO, "'channels' describes every channel.", "Describe every channel once.")

# labels
IMAGE_LABEL = Rule(
    _LABELS,
    "The label image SHOULD contain 'image-label', an object.",
    "Add an 'image-label' object.",
)
LABEL_MULTISCALES = Rule(
    _LABELS,
    "Image-label groups MUST also contain 'multiscales' metadata.",
    "Describe the label image under 'multiscales'.",
)
LABEL_COLORS_SHOULD = Rule(
    _LABELS, "The 'image-label' object SHOULD contain the key 'colors'.", "Add colours."
)
LABEL_ENTRIES = Rule(
    _LABELS,
    "'colors' and 'properties' are lists of objects, and not empty.",
    "List at least one entry, or leave the key out.",
)
LABEL_VALUE = Rule(
    _LABELS,
    "Each entry MUST contain 'label-value', the integer of a label, and each only once.",
    "Write the integer of the label.",
)
LABEL_RGBA = Rule(
    _LABELS,
    "'rgba' MUST be a list of four integers between 0 and 255.",
    "Write red, green, blue and alpha.",
)
LABEL_SOURCE = Rule(
    _LABELS,
    "'source' MUST be an object; its 'image' a string, the relative path of the image.",
    'Write {"image": "../../"}.',
)
LABEL_VERSION = Rule(
    _LABELS,
    "The value of 'version' MUST be a string, the version of the specification.",
    "Write the version as text, or leave it out.",
)
LABEL_DTYPE = Rule(
    _LABELS,
    "The pixels of the label images MUST be integer data types.",
    "Write the labels as integers.",
)
LABEL_LEVELS = Rule(
    _LABELS,
    "The label image MUST have the same number of scale levels as the image.",
    "Write a level of labels for each level of the image.",
)
LABELS_LIST = Rule(
    _LABELS,
    "The 'labels' group MUST contain the key 'labels': a list of paths of label images.",
    "List the paths of the label images.",
)
LABEL_MISSING = Rule(
    _LABELS,
    "'labels' lists the paths of label images.",
    "Remove the path from the list, or write the label image.",
)

# plates and wells
PLATE = Rule(_PLATE, "'plate' is an object.", "Describe the plate.")
PLATE_VERSION = Rule(_PLATE, "The plate MUST contain its 'version'.", "Add the version.")
PLATE_NAME = Rule(
    _PLATE, "The plate SHOULD contain 'name', whose value MUST be a string.", "Name the plate."
)
PLATE_FIELD_COUNT = Rule(
    _PLATE,
    "The plate SHOULD contain 'field_count', whose value MUST be a positive integer.",
    "Write the largest number of fields of a well.",
)
PLATE_ROWS = Rule(
    _PLATE,
    "The plate MUST contain 'rows' and 'columns': lists of objects with a 'name' of alphanumeric "
    "characters, each only once.",
    "List every row and every column of the plate by its name.",
)
PLATE_WELLS = Rule(
    _PLATE,
    "The plate MUST contain 'wells', a list of objects with the path of the well's group.",
    "List the wells.",
)
WELL_PATH = Rule(
    _PLATE,
    "The 'path' of a well MUST consist of a name in 'rows', '/', and a name in 'columns'.",
    "Write the path as row/column, such as 'A/1'.",
)
WELL_INDEX = Rule(
    _PLATE,
    "Each well MUST contain 'rowIndex' and 'columnIndex', 0-based; they and 'path' MUST refer to "
    "the same row and column.",
    "Write the places of the row and the column in their lists.",
)
WELL_MISSING = Rule(
    _PLATE,
    "'wells' lists the paths of the groups of the wells.",
    "Remove the well from the list, or write its group.",
)
ACQUISITIONS = Rule(
    _PLATE,
    "'acquisitions' is a list of objects; each MUST contain an 'id', a unique integer of at least "
    "0.",
    "Number the acquisitions.",
)
ACQUISITION_FIELD = Rule(
    _PLATE,
    "An acquisition SHOULD contain 'name', a string, and 'maximumfieldcount', a positive integer; "
    "'description' is a string, 'starttime' and 'endtime' are integers.",
    "Write that type of value.",
)
WELL = Rule(
    _WELL,
    "'well' MUST contain 'images': a list of objects, each with a 'path'.",
    "List the fields of view of the well.",
)
FIELD_PATH = Rule(
    _WELL,
    "The 'path' of a field MUST be a name that is unique within the well, of the characters that "
    "are allowed.",
    "Name the group of the field by letters and digits.",
)
FIELD_ACQUISITION = Rule(
    _WELL,
    "'acquisition' is the integer id of an acquisition of the plate; it MUST be there where the "
    "plate has several.",
    "Write the id of the acquisition.",
)
FIELD_MISSING = Rule(
    _WELL,
    "'images' lists the paths of the fields of view.",
    "Remove the field from the list, or write its image.",
)

# collections and scenes
LAYOUT = Rule(
    _BF2RAW,
    "The value of 'bioformats2raw.layout' MUST be 3.",
    'Write "bioformats2raw.layout": 3.',
)
SERIES = Rule(
    _BF2RAW,
    "'series' MUST be a list of strings, each the path of an image group.",
    "List the paths of the images.",
)
SERIES_MISSING = Rule(
    _BF2RAW,
    "Each image of the collection is stored in its own group.",
    "Remove the path from 'series', or write the image.",
)
SCENE = Rule(
    _SCENE,
    "The 'scene' object MUST contain 'coordinateTransformations'; it MAY contain "
    "'coordinateSystems'.",
    "Write at least one transformation.",
)
SCENE_ENDS = Rule(
    _SCENE,
    "'input' and 'output' MUST be objects with the field 'name', and MAY contain 'path'.",
    'Write them as {"name": …, "path": …}.',
)
SCENE_MISSING = Rule(
    _SCENE, "'path' is the path of an image below the scene.", "Write the image, or mend the path."
)

# collections as RFC-8 proposes them
_RFC8 = "RFC-8, version 1 (2026-08)"
NODE = Rule(
    _RFC8,
    "A node MUST have a 'type' and a 'name', which is unique in its collection; 'attributes' MUST "
    "be an object; the node below 'ome' MUST have a 'version'.",
    "Write what is missing, or mend it.",
)
NODE_ID = Rule(
    _RFC8,
    "'id' MUST match [a-zA-Z0-9-_.]+ and be unique within the document.",
    "Write another id.",
)
NODE_NODES = Rule(
    _RFC8,
    "Either 'nodes', a list of nodes, or 'path' MUST be present, but not both.",
    "List the nodes, or say where they are.",
)
NODE_PATH = Rule(
    _RFC8,
    "'path' MUST be an object with a 'type' and a 'path', which leads to the node.",
    "Mend the path, or write what it leads to.",
)
NODE_ORIGIN = Rule(
    _RFC8,
    "Implementations MUST communicate to the user when data is being loaded from a different "
    "origin than the collection itself.",
    "Nothing, if you know where it comes from.",
)
NODE_TYPE = Rule(
    _RFC8,
    "Nodes are collections and multiscales; a type with a prefix is an extension, which MAY be "
    "skipped.",
    "Nothing: it is kept as it is.",
)
NODE_VERSION = Rule(
    _RFC8,
    "Nodes inside others MUST NOT have a different 'version' than the root.",
    "Leave out the version of the inner node.",
)
